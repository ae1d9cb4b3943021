"""The text of an HTML page.

Not `html.parser`: given 150 KB of `<a <a <a` it takes minutes, and some input makes it raise. This reads each
character once, knows nothing of how elements nest, and is meant for a reader who forgives.
"""

from __future__ import annotations

import html
import re

SILENT = frozenset({"script", "style", "noscript", "template", "svg", "iframe", "object"})
"""Elements whose contents nobody reads."""
BLOCKS = frozenset(
    "address article aside blockquote br dd div dl dt fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 "
    "header hr li main nav ol p pre section table td th title tr ul".split()
)
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]{0,20})")
_HREF = re.compile(r"""\shref\s?=\s?(?:"([^"]*)"|'([^']*)'|([^\s>"']+))""", re.IGNORECASE)
_MAX_TAG_CHARACTERS = 4_000
"""Of a longer tag the rest is not looked at."""


def readable(page: str) -> str:
    """A line for each block, and the address of each link behind its text."""
    lines = (" ".join(line.split()) for line in "".join(_parts(page)).splitlines())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _parts(page: str) -> list[str]:
    parts: list[str] = []
    links: list[str] = []
    lowered = page.lower() if len(page.lower()) == len(page) else page
    at = 0
    while (begins := page.find("<", at)) >= 0:
        parts.append(html.unescape(page[at:begins]))
        if page.startswith("<!--", begins):
            at = _after(page, "-->", begins + 4)
            continue
        tag = _TAG.match(page, begins)
        if tag is None and page[begins + 1 : begins + 2] not in ("!", "?", "/"):
            parts.append("<")
            at = begins + 1
            continue
        at = _after(page, ">", begins + 1)
        if tag is None:
            continue
        closes, name = bool(tag[1]), tag[2].lower()
        if name in SILENT and not closes:
            at = _after(page, ">", _after(lowered, f"</{name}", at))
        elif name in BLOCKS:
            parts.append("\n")
        elif name == "a" and not closes:
            links.append(_href(page[begins : min(at, begins + _MAX_TAG_CHARACTERS)]))
        elif name == "a" and links and (link := links.pop()):
            parts.append(f" ({link})")
    parts.append(html.unescape(page[at:]))
    return parts


def _after(page: str, mark: str, at: int) -> int:
    """The place behind the next such mark; the end where there is none."""
    found = page.find(mark, at)
    return len(page) if found < 0 else found + len(mark)


def _href(tag: str) -> str:
    found = _HREF.search(tag)
    link = html.unescape(next((each for each in found.groups() if each), "")) if found else ""
    return link if link.startswith(("https://", "http://", "/")) else ""
