"""The page of a report: Markdown to HTML, with a table of contents, captions under pictures and clickable heatmaps."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from jinja2 import Environment, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup, escape
from PIL import Image

from ablation.report.elements import in_script
from ablation.spec import InvalidSpec

LIMIT = 5 * 2**20  # bytes of a page
REMOTE = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.IGNORECASE)


def body(text: str, link: Callable[[str], str]) -> tuple[str, list[tuple[str, str]]]:
    """HTML of a report's Markdown, and its contents: (anchor, heading) of each section.

    link: maps a picture's address in the text to its address in the page; addresses on other machines stay unchanged.
    """
    parser = MarkdownIt("commonmark", {"html": True}).enable("table")

    def image(renderer: Any, tokens: list, index: int, options: Any, env: Any) -> str:
        token = tokens[index]
        address, title = token.attrs["src"], escape(renderer.renderInlineAsText(token.children, options, env))
        address = address if REMOTE.match(address) else link(unquote(address))
        return f'<span class="picture"><img alt="{title}" src="{escape(address)}"><span>{title}</span></span>'

    parser.add_render_rule("image", image)
    parser.add_render_rule("table_open", lambda *_: '<div class="wide"><table class="sortable">\n')
    parser.add_render_rule("table_close", lambda *_: "</table></div>\n")
    tokens = parser.parse(text)
    contents: list[tuple[str, str]] = []
    for token, inline in pairwise(tokens):
        if token.type == "heading_open" and token.tag == "h2":
            contents.append((f"section-{len(contents) + 1}", inline.content))
            token.attrs["id"] = contents[-1][0]
    return parser.renderer.render(tokens, parser.options, {}), contents


def page(text: str, body: str, contents: list[tuple[str, str]], sources: dict[str, str]) -> str:
    """One HTML page that loads nothing from the network. sources: digests of its source files by path."""
    source = resources.files("ablation.report").joinpath("page.html.jinja").read_text()
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(source)
    page = template.render(title=_title(text), body=Markup(body), contents=contents, sources=Markup(in_script(sources)))
    if len(page.encode()) > LIMIT:
        raise InvalidSpec(f"the page must be under {LIMIT} bytes, but is {len(page.encode())}. Show fewer figures.")
    return page


def embedded(path: Path) -> str:
    """A PNG with at most 128 colors as a data address; figures look the same in a third of the bytes."""
    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(128, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    small.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _title(text: str) -> str:
    return next((line.removeprefix("# ").strip() for line in text.splitlines() if line.startswith("# ")), "Report")
