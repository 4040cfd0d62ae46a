"""A folder of class folders, or of images without classes. Every image is used or named in an error.

    PLACE/train/cat/1.png       the first folder is the split, named exactly as ImageData.train or .test,
    PLACE/test/cat/9.png        the second the class; images may be deeper inside it
    PLACE/cat/1.png             classes only, if the test images are cut (test=0.2)
    PLACE/1.png                 without labels (labels=False), images may be at any depth

Links to folders are followed. Any file that the installed Pillow reads is an image, whatever its ending. Text files
beside the images (SIDECARS) and leftovers of systems and archives (NOISE, names starting with ._) are skipped.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from ablation.data.source import Wrong

SIDECARS = frozenset(
    (".csv", ".db", ".htm", ".html", ".ini", ".json", ".jsonl", ".log", ".md", ".md5", ".sha256", ".tsv", ".txt",
     ".xml", ".yaml", ".yml")
)  # fmt: skip
NOISE = frozenset({"__MACOSX", "@eaDir", ".git", ".DS_Store", "Thumbs.db", "desktop.ini"})
LABELS = (".csv", ".tsv", ".json", ".jsonl", ".txt", ".xls", ".xlsx", ".mat", ".npy")  # possible files of labels
ABOUT = re.compile("readme|licen[cs]e")
METADATA = frozenset({"metadata.csv", "metadata.jsonl"})  # other readers take labels from these
SPLIT = re.compile(r"train(ing)?|test(ing)?|val(id(ation)?)?|dev|eval(uation)?")
LIKE_A_SPLIT = re.compile(rf"({SPLIT.pattern})([^a-z].*)?")  # train2017, test_images, but also: test tube


@dataclass(frozen=True)
class Tree:
    """The content of a folder, by paths below it ("train/cat/1.png"), in the order of their names.

    strange: neither file nor folder, such as broken links. links: the targets of files that are links. roots: the real
    folders that contain the files.
    """

    place: Path
    files: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)
    links: dict[str, Path] = field(default_factory=dict)
    roots: list[Path] = field(default_factory=list)

    def state(self) -> str:
        """A digest of all names, and of the files' sizes and times."""
        digest = hashlib.sha256(repr([self.folders, self.strange]).encode(errors="surrogateescape"))
        for name in self.files:
            path = self.place / name
            stat = os.stat(path)
            line = f"{path} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}\n"
            digest.update(line.encode(errors="surrogateescape"))
        return digest.hexdigest()

    def refuse(self, rule: str, paths: Iterable[str], cure: str) -> None:
        """Raises Wrong with the rule, the first few paths that break it, their number, and the cure."""
        paths = sorted(set(paths))
        shown = ", ".join(map(repr, paths[:5])) + (f" and {len(paths) - 5:,} more" if len(paths) > 5 else "")
        raise Wrong(f"{rule}, but {shown} {'breaks' if len(paths) == 1 else 'break'} this rule. {cure}")


def _like_a_split(name: str) -> bool:
    """train2017, test_images, seg_train, but also: test tube."""
    words = re.split(r"[\W_]+", name.casefold())
    return bool(LIKE_A_SPLIT.fullmatch(name.casefold())) or any(map(SPLIT.fullmatch, words)) or "pred" in words


def _is_split(name: str) -> bool:
    return bool(SPLIT.fullmatch(name.casefold()))


def walk(place: Path) -> Tree:
    """Everything below a folder. Raises Wrong if a link leads to a folder twice."""
    tree, seen = Tree(place), {}

    def enter(folder: str, linked: bool) -> None:
        path = place / folder
        real = os.path.realpath(path)
        if real in seen:
            raise Wrong(f"{folder!r} and {seen[real]!r} are the same folder, by a link. Remove the link.")
        seen[real] = folder or "."
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
    """The composed form (NFC) of accented letters, which file systems store in two ways."""
    return unicodedata.normalize("NFC", name)


class Folder:
    """The splits of a tree of images: their names, and each one's images with classes (None without `labels`)."""

    def __init__(self, tree: Tree, train: str, test: str | float, labels: bool = True):
        self.tree, self.train, self.cut, self.labels = tree, train, not isinstance(test, str), labels
        self.images = [path for path in tree.files if is_image(tree.place / path)]
        self.top = {path.split("/")[0] for path in self.images if "/" in path}
        folders = [path for path in tree.folders if "/" not in path and not path.startswith(".")]
        self.has_splits = self._nested(train) or not self.cut
        self.names = folders if self.has_splits else [train]
        if not self.has_splits:
            self._refuse_splits_as_classes()

    def _nested(self, name: str) -> bool:
        """Whether a folder holds folders of images; without labels, whether it holds images at any depth."""
        return any(path.startswith(name + "/") and path.count("/") > self.labels for path in self.images)

    def _refuse_splits_as_classes(self) -> None:
        splits = list(filter(_is_split, self.top))
        if self.top and all(map(_like_a_split, self.top)):
            splits = self.top
        elif len(splits) < 2 and not any(map(self._nested, splits)):
            return
        first = min(splits, key=lambda name: ("train" not in name.casefold(), name))
        if not self.labels:
            self.tree.refuse(
                f"without a folder {self.train!r}, all folders must belong to one split",
                splits,
                f"If these are splits, name them: train={first!r}. If not, move all into a folder {self.train!r}.",
            )
        self.tree.refuse(
            f"without a folder {self.train!r} of class folders, all folders must be classes",
            splits,
            f"If these are splits, put class folders into them and name them: train={first!r}. If they are classes, "
            f"move all classes into a folder {self.train!r}.",
        )

    def cure(self, role: str) -> str:
        """The cure for a missing split."""
        inside = sorted({tuple(path.split("/")[:2]) for path in self.images if path.count("/") > 1})
        inside = [name for name, below in inside if _is_split(below)]
        if inside:
            return f"Did you mean its folder {inside[0]!r}? path={str(self.tree.place / inside[0])!r}."
        if not self.top and self.labels:
            return (
                f"It has no class folders: {len(self.images):,} images are in the folder itself. "
                f"{self._instead_of_labels('')}"
            )
        if role == "train" and not self.labels:
            return "Name one: train=...; or, if there are no splits, cut the test images: test=0.2."
        if len(self.top) == 1 and not any(map(self._nested, self.top)) and self._files_of_labels(""):
            return self._instead_of_labels("")
        if role == "train":
            return "Name one: train=.... If its folders are the classes, cut the test images: test=0.2."
        return "Name one: test=..., or cut the test images: test=0.2."

    def _files_of_labels(self, base: str) -> list[str]:
        """Possible files of labels, of the place or of a split, outside class folders."""
        near = [path for path in self.tree.files if "/" not in path or "/" not in path.removeprefix(base)]
        return [path for path in near if _ending(path) in LABELS and not ABOUT.match(path.rpartition("/")[2].lower())]

    def _instead_of_labels(self, base: str) -> str:
        """The cure for missing classes."""
        files = self._files_of_labels(base)
        more = f" and {len(files) - 3:,} more" if len(files) > 3 else ""
        unread = f"Labels are not read from files ({', '.join(map(repr, files[:3]))}{more}). " if files else ""
        flat = "" if base else f" in {str(self.tree.place)!r}, and cut the test images: test=0.2"
        return (
            f"{unread}Make a folder for each class, {base}CLASS/IMAGE{flat}; or train without labels: labels=False, "
            "test=0.2."
        )

    def same_folders(self, base: str, classified: list[tuple[str, str]]) -> str:
        """A warning if all classes hold the same two or more folders, which may be the real classes; "" otherwise."""
        below: dict[str, set[str]] = {}
        for name, path in classified:
            parts = path.removeprefix(base).split("/")
            below.setdefault(name, set()).update(parts[1:2] if len(parts) > 2 else ())
        first = sorted(min(below.values(), default=set()))
        if len(below) < 2 or len(first) < 2 or any(each != set(first) for each in below.values()):
            return ""
        classes, folders = (
            ", ".join(map(repr, each[:4])) + (", ..." if len(each) > 4 else "") for each in (list(below), first)
        )
        one, other, *_ = below
        deeper = (
            f", or name one of the outer folders: path={str(self.tree.place / one)!r}; if those are splits, name "
            f"them: train={one!r}, test={other!r}"
        )
        return (
            f"the classes are {classes}, and each contains the folders {folders}. If the inner folders are the "
            f"classes, move them up, {'SPLIT/' if base else ''}{first[0]}/IMAGE{'' if base else deeper}"
        )

    def read(self, names: list[str]) -> dict[str, list[tuple[str | None, str]]]:
        """For each split, (class, path) of its images, in the order of their names."""
        return {name: self._images_below(f"{name}/" if self.has_splits else "") for name in names}

    def refuse_unused(self, names: list[str]) -> None:
        """Refuses images outside the requested splits; only prints a line about other splits."""
        others = [path for path in self.images if self.has_splits and path.split("/")[0] not in names]
        wrong = [path for path in others if "/" not in path or not _is_split(path.split("/")[0])]
        used = " and ".join(map(repr, names))
        if wrong:
            where = "class folders of " if self.labels else "the folders "
            self.tree.refuse(f"images must be in {where}{used}", wrong, "Move them elsewhere.")
        for name, count in Counter(path.split("/")[0] for path in others).items():
            print(f"ablation: {self.tree.place}: using {used}; not using {count:,} images in the folder {name!r}.",
                  file=sys.stderr, flush=True)  # fmt: skip

    def _images_below(self, base: str) -> list[tuple[str | None, str]]:
        tree = self.tree
        images = {path: path[len(base) :].split("/") for path in self.images if path.startswith(base)}
        self._refuse_others(base)
        if self.labels:
            self._refuse_stray(base, images)
        hidden = [path for path, parts in images.items() if any(part.startswith(".") for part in parts)]
        if hidden:
            tree.refuse("names of images and their folders must not start with a dot", hidden, "Rename or remove it.")
        outside = [path for path in images if path in tree.links and not self._known(tree.links[path])]
        if outside:
            tree.refuse("images must be inside the data set's folder", [f"{p} -> {tree.links[p]}" for p in outside],
                        "Copy the image into the folder, or remove it from the data set.")  # fmt: skip
        return self._classified(base, images) if self.labels else [(None, path) for path in images]

    def _refuse_stray(self, base: str, images: dict[str, list[str]]) -> None:
        """Refuses images outside class folders."""
        where = base.rstrip("/") or str(self.tree.place)
        stray = [path for path, parts in images.items() if len(parts) == 1]
        if len(stray) == len(images):
            raise Wrong(f"images must be in class folders, but {where!r} has no class folders with images "
                        f"({len(stray):,} images are not in one). {self._instead_of_labels(base)}")  # fmt: skip
        if stray:
            self.tree.refuse(f"every image must be in a class folder of {where!r}", stray, "Move it, or remove it.")

    def _classified(self, base: str, images: dict[str, list[str]]) -> list[tuple[str, str]]:
        """images: the parts of their paths below `base`; the first is the class."""
        tree = self.tree
        splits = ["/".join(parts[:2]) for parts in images.values() if not base and _is_split(parts[1])]
        if splits:
            tree.refuse("if the test images are cut, class folders must not contain splits", splits,
                        f"Make the split the first folder: {self.train}/CLASS/IMAGE.")  # fmt: skip
        names = dict.fromkeys(parts[0] for parts in images.values())
        empty = [f for f in tree.folders if f.startswith(base) and f.rpartition("/")[0] == base.rstrip("/")]
        empty = [f for f in empty if not f[len(base) :].startswith(".") and f[len(base) :] not in names]
        if empty:
            tree.refuse("every class folder must contain images", empty, "Add some, or remove the empty folder.")
        strange = [name for name in names if name != name.encode(errors="replace").decode()]
        if strange:
            tree.refuse("names of classes must be UTF-8", strange, "Rename the folder.")
        spaced = [base + name for name in names if name != name.strip()]
        if spaced:
            tree.refuse("names of classes must not start or end with a space", spaced, "Rename the folder.")
        if len(names) == 1 and self._files_of_labels(base):
            raise Wrong(
                f"there must be at least two classes, but the only class folder is {base + next(iter(names))!r}. "
                f"{self._instead_of_labels(base)}"
            )
        classes = {name: _normal(name) for name in names}
        twice = [name for name, count in Counter(classes.values()).items() if count > 1]
        if twice:
            tree.refuse("names of classes must differ by more than the encoding of accents", twice,
                        "Rename one of the two.")  # fmt: skip
        return [(classes[parts[0]], path) for path, parts in images.items()]

    def _refuse_others(self, base: str) -> None:
        """Refuses files of a split that Pillow cannot read but that may be meant as images or labels."""
        tree, images = self.tree, set(self.images)
        metadata = [f for f in tree.files if f.rpartition("/")[2] in METADATA and ("/" not in f or f.startswith(base))]
        if metadata and self.labels:
            tree.refuse("classes come from folder names, never from files of metadata", metadata, "Rename it.")
        # Beside class folders, or without an ending at the top of a data set, a file is no image (LICENSE).
        inside = [f for f in tree.files if "/" in f[len(base) :] or (not self.labels and (base or _ending(f)))]
        unread = [f for f in inside if f not in images and _ending(f) not in SIDECARS]
        unread = [f for f in unread + tree.strange if f.startswith(base)]
        unread = [f for f in unread if not any(part.startswith(".") for part in f[len(base) :].split("/"))]
        if unread:
            where = "class folders" if self.labels else "the folder"
            tree.refuse(f"files in {where} must be images that Pillow reads, or text files", unread,
                        "Convert it, or remove it.")  # fmt: skip

    def _known(self, real: Path) -> bool:
        return any(real.is_relative_to(root) for root in self.tree.roots)


def _ending(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def is_image(path: Path) -> bool:
    """Whether the ending says so, or, for unknown endings, the content."""
    ending = _ending(path.name)
    if Image.registered_extensions().get(ending) in Image.OPEN:
        return True
    if ending in SIDECARS:
        return False
    try:
        with Image.open(path):
            return True
    except Exception:  # Pillow's plug-ins may raise anything for a file that is no image
        return False
