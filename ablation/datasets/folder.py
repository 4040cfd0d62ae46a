"""A folder of class folders. Every image that is seen in it is used or named in a refusal.

    PLACE/train/cat/1.png       the split is the first folder, called exactly as ImageData.train and .test say,
    PLACE/test/cat/9.png        and the class the folder below it; images may lie deeper in that
    PLACE/cat/1.png             classes only: where the test images are cut (test=0.2)

Links to folders are followed. What the installed Pillow reads is an image, whatever its ending. Left alone are texts
beside the images (SIDECARS), and what systems and archives leave behind (NOISE, names that begin with ._).
"""

from __future__ import annotations

import os
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from ablation.datasets.tables import Wrong

SIDECARS = frozenset(
    (".csv", ".db", ".htm", ".html", ".ini", ".json", ".jsonl", ".log", ".md", ".md5", ".sha256", ".tsv", ".txt",
     ".xml", ".yaml", ".yml")
)  # fmt: skip
NOISE = frozenset({"__MACOSX", "@eaDir", ".git", ".DS_Store", "Thumbs.db", "desktop.ini"})
LABELS = (".csv", ".tsv", ".json", ".jsonl", ".txt", ".xls", ".xlsx", ".mat", ".npy")  # what may hold labels
ABOUT = re.compile("readme|licen[cs]e")
METADATA = frozenset({"metadata.csv", "metadata.jsonl"})  # of other readers, which take labels from them
SPLIT = re.compile(r"train(ing)?|test(ing)?|val(id(ation)?)?|dev|eval(uation)?")
LIKE_A_SPLIT = re.compile(rf"({SPLIT.pattern})([^a-z].*)?")  # train2017, test_images, but also: test tube


@dataclass(frozen=True)
class Tree:
    """What lies in a folder, by paths below it ("train/cat/1.png"), in the order of their names.

    strange: neither file nor folder, such as links that lead nowhere. links: of files that are links, where they lead.
    roots: the real folders in which the files lie.
    """

    place: Path
    files: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)
    links: dict[str, Path] = field(default_factory=dict)
    roots: list[Path] = field(default_factory=list)

    def refuse(self, rule: str, paths: Iterable[str], cure: str) -> None:
        """Names the first few of the paths that break the rule, and how many there are."""
        paths = sorted(set(paths))
        shown = ", ".join(map(repr, paths[:5])) + (f" and {len(paths) - 5:,} more" if len(paths) > 5 else "")
        raise Wrong(f"{rule}, but {shown} {'breaks' if len(paths) == 1 else 'break'} this. {cure}")


def _like_a_split(name: str) -> bool:
    """train2017, test_images, seg_train, but also: test tube."""
    words = re.split(r"[\W_]+", name.casefold())
    return bool(LIKE_A_SPLIT.fullmatch(name.casefold())) or any(map(SPLIT.fullmatch, words)) or "pred" in words


def _is_split(name: str) -> bool:
    return bool(SPLIT.fullmatch(name.casefold()))


def walk(place: Path) -> Tree:
    """Everything below a folder; a folder that is met twice, by a link, is refused."""
    tree, met = Tree(place), {}

    def enter(folder: str, linked: bool) -> None:
        path = place / folder
        real = os.path.realpath(path)
        if real in met:
            raise Wrong(
                f"every folder must lie in one place, but {folder!r} and "
                f"{met[real]!r} are the same one, by a link. Remove the link."
            )
        met[real] = folder or "."
        if linked:
            tree.roots.append(Path(real))
        for entry in sorted(os.scandir(path), key=lambda entry: _normal(entry.name)):
            below = f"{folder}/{entry.name}" if folder else entry.name
            if entry.name in NOISE or entry.name.startswith("._"):
                continue
            if entry.is_dir():
                tree.folders.append(below)
                enter(below, entry.is_symlink())
            elif entry.is_file():
                tree.files.append(below)
                if entry.is_symlink():
                    tree.links[below] = Path(os.path.realpath(entry.path))
            else:
                tree.strange.append(below)

    enter("", True)
    return tree


def _normal(name: str) -> str:
    """One spelling of letters with accents, which file systems store in two ways."""
    return unicodedata.normalize("NFC", name)


class Folder:
    """The splits of a tree of class folders: names, and for each its images with their classes."""

    def __init__(self, tree: Tree, train: str, test: str | float):
        self.tree, self.train, self.cut = tree, train, not isinstance(test, str)
        self.images = [path for path in tree.files if is_image(tree.place / path)]
        self.top = {path.split("/")[0] for path in self.images if "/" in path}
        folders = [path for path in tree.folders if "/" not in path and not path.startswith(".")]
        self.has_splits = self._nested(train) or not self.cut
        self.names = folders if self.has_splits else [train]
        if not self.has_splits:
            self._refuse_splits_as_classes()

    def _nested(self, name: str) -> bool:
        """Whether a folder holds folders of images."""
        return any(path.startswith(name + "/") and path.count("/") > 1 for path in self.images)

    def _refuse_splits_as_classes(self) -> None:
        splits = list(filter(_is_split, self.top))
        if self.top and all(map(_like_a_split, self.top)):
            splits = self.top
        elif len(splits) < 2 and not any(map(self._nested, splits)):
            return
        first = min(splits, key=lambda name: ("train" not in name.casefold(), name))
        self.tree.refuse(
            f"where there is no folder {self.train!r} with class folders, all folders must be classes",
            splits,
            f"If these are splits, put class folders into them and name them: train={first!r}. If they are classes, "
            f"move all classes into a folder {self.train!r}.",
        )

    def cure(self, role: str) -> str:
        """What to do where a split is missing."""
        inside = sorted({tuple(path.split("/")[:2]) for path in self.images if path.count("/") > 1})
        inside = [name for name, below in inside if _is_split(below)]
        if inside:
            return f"Perhaps its folder {inside[0]!r} is meant: path={str(self.tree.place / inside[0])!r}."
        if not self.top:
            return (
                f"There are no class folders in it: {len(self.images):,} images lie in the folder itself. "
                f"{self._instead_of_labels('')}"
            )
        if len(self.top) == 1 and not any(map(self._nested, self.top)) and self._files_of_labels(""):
            return self._instead_of_labels("")
        if role == "train":
            return "Name one: train=.... If its folders are the classes, cut the test images: test=0.2."
        return "Name one: test=..., or cut the test images: test=0.2."

    def _files_of_labels(self, base: str) -> list[str]:
        """Of the place or of a split, outside of class folders."""
        near = [path for path in self.tree.files if "/" not in path or "/" not in path.removeprefix(base)]
        return [path for path in near if _ending(path) in LABELS and not ABOUT.match(path.rpartition("/")[2].lower())]

    def _instead_of_labels(self, base: str) -> str:
        """The cure where there are no classes."""
        files = self._files_of_labels(base)
        more = f" and {len(files) - 3:,} more" if len(files) > 3 else ""
        unread = f"Labels are not read from files ({', '.join(map(repr, files[:3]))}{more}). " if files else ""
        flat = "" if base else f" in {str(self.tree.place)!r}, and cut the test images: test=0.2"
        return f"{unread}Make a folder for each class, {base}CLASS/IMAGE{flat}."

    def same_folders(self, base: str, classified: list[tuple[str, str]]) -> str:
        """What must be said where all classes hold the same two folders or more, which may be the classes; or ""."""
        below: dict[str, set[str]] = {}
        for name, path in classified:
            parts = path.removeprefix(base).split("/")
            below.setdefault(name, set()).update(parts[1:2] if len(parts) > 2 else ())
        first = sorted(min(below.values(), default=set()))
        if len(below) < 2 or len(first) < 2 or any(each != set(first) for each in below.values()):
            return ""
        classes, folders = (", ".join(map(repr, each[:4])) + ", ..." * (len(each) > 4) for each in (list(below), first))
        one, other, *_ = below
        deeper = (
            f", or name one of the former: path={str(self.tree.place / one)!r}; if those are splits, name them: "
            f"train={one!r}, test={other!r}"
        )
        return (
            f"the classes are {classes}, and each of them holds the folders {folders}. If these are the classes, "
            f"move them up, {'SPLIT/' if base else ''}{first[0]}/IMAGE{'' if base else deeper}"
        )

    def read(self, names: list[str]) -> dict[str, list[tuple[str, str]]]:
        """For each split (class, path of the image), in the order of their names."""
        return {name: self._classified(f"{name}/" if self.has_splits else "") for name in names}

    def refuse_unused(self, names: list[str]) -> None:
        """Images beside the splits that are asked for; another split is only mentioned."""
        others = [path for path in self.images if self.has_splits and path.split("/")[0] not in names]
        wrong = [path for path in others if "/" not in path or not _is_split(path.split("/")[0])]
        used = " and ".join(map(repr, names))
        if wrong:
            self.tree.refuse(f"images must lie in class folders of {used}", wrong, "Move them elsewhere.")
        for name, count in Counter(path.split("/")[0] for path in others).items():
            print(f"ablation: {self.tree.place}: {used} are used; {count:,} images in the folder {name!r} are not.",
                  file=sys.stderr, flush=True)  # fmt: skip

    def _classified(self, base: str) -> list[tuple[str, str]]:
        tree = self.tree
        where = base.rstrip("/") or str(tree.place)
        images = {path: path[len(base) :].split("/") for path in self.images if path.startswith(base)}
        self._refuse_others(base)
        stray = [path for path, parts in images.items() if len(parts) == 1]
        if len(stray) == len(images):
            raise Wrong(f"images must lie in class folders, but {where!r} has no class folders with images "
                        f"({len(stray):,} images lie in it). {self._instead_of_labels(base)}")  # fmt: skip
        if stray:
            tree.refuse(f"every image must lie in a class folder of {where!r}", stray, "Move it, or remove it.")
        hidden = [path for path, parts in images.items() if any(part.startswith(".") for part in parts)]
        if hidden:
            tree.refuse("names of images and their folders must not begin with a dot", hidden, "Rename or remove it.")
        outside = [path for path in images if path in tree.links and not self._known(tree.links[path])]
        if outside:
            tree.refuse("images must lie inside the data set's folder", [f"{p} -> {tree.links[p]}" for p in outside],
                        "Copy the image into the folder, or remove it from the data set.")  # fmt: skip
        splits = ["/".join(parts[:2]) for parts in images.values() if not base and _is_split(parts[1])]
        if splits:
            tree.refuse("where the test images are cut, class folders must not hold splits", splits,
                        f"Let the split be the first folder: {self.train}/CLASS/IMAGE.")  # fmt: skip
        names = dict.fromkeys(parts[0] for parts in images.values())
        empty = [f for f in tree.folders if f.startswith(base) and f.rpartition("/")[0] == base.rstrip("/")]
        empty = [f for f in empty if not f[len(base) :].startswith(".") and f[len(base) :] not in names]
        if empty:
            tree.refuse("every class folder must hold images", empty, "It has none: remove the folder, or add some.")
        strange = [name for name in names if name != name.encode(errors="replace").decode()]
        if strange:
            tree.refuse("names of classes must be UTF-8", strange, "Rename the folder.")
        spaced = [base + name for name in names if name != name.strip()]
        if spaced:
            tree.refuse("names of classes must not begin or end with a space", spaced, "Rename the folder.")
        if len(names) == 1 and self._files_of_labels(base):
            raise Wrong(
                f"there must be at least two classes, but the only class folder is {base + next(iter(names))!r}. "
                f"{self._instead_of_labels(base)}"
            )
        classes = {name: _normal(name) for name in names}
        twice = [name for name, count in Counter(classes.values()).items() if count > 1]
        if twice:
            tree.refuse("classes must differ in more than how a system stores accents", twice, "Rename one of the two.")
        return [(classes[parts[0]], path) for path, parts in images.items()]

    def _refuse_others(self, base: str) -> None:
        """What lies in a split, is no image and may yet be meant as one, or as a label."""
        tree, images = self.tree, set(self.images)
        metadata = [f for f in tree.files if f.rpartition("/")[2] in METADATA and ("/" not in f or f.startswith(base))]
        if metadata:
            tree.refuse("a class is the name of a folder, and no file of metadata is read", metadata, "Rename it.")
        unread = [f for f in tree.files if "/" in f[len(base) :] and f not in images and _ending(f) not in SIDECARS]
        unread = [f for f in unread + tree.strange if f.startswith(base)]
        unread = [f for f in unread if not any(part.startswith(".") for part in f[len(base) :].split("/"))]
        if unread:
            tree.refuse("what lies in class folders must be images that Pillow reads, or texts beside them", unread,
                        "Convert it, or remove it.")  # fmt: skip

    def _known(self, real: Path) -> bool:
        return any(real.is_relative_to(root) for root in self.tree.roots)


def _ending(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def is_image(path: Path) -> bool:
    """By the ending, or by the content where that says nothing."""
    ending = _ending(path.name)
    if Image.registered_extensions().get(ending) in Image.OPEN:
        return True
    if ending in SIDECARS:
        return False
    try:
        with Image.open(path):
            return True
    except Exception:  # whatever a plug-in raises at what is no image
        return False
