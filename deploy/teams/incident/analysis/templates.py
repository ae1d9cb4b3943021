"""Messages -> templates: Drain, a parse tree of fixed depth, after masking what varies.

A message is split into words; words with digits in them (numbers, ids, addresses, hashes) and paths become `<*>`.
Messages of as many words and the same first word are compared with the templates already known there: at least
`similarity` equal words make it an instance, and the words that differ become `<*>` in the template too.
"""

from __future__ import annotations

import re

WILDCARD = "<*>"
MEMO_SIZE = 50_000
MAX_WORDS = 60
OVERFLOW = "<other messages>"

VARIABLE = re.compile(
    r"(?<![A-Za-z0-9])(?!(?:x509|s3|h2|http2|utf8|v\d|p\d\d)(?![A-Za-z0-9]))"
    r"[A-Za-z0-9]*\d[A-Za-z0-9]*(?:[.:,_+-][A-Za-z0-9]*\d[A-Za-z0-9]*)*"
)
HEXADECIMAL = re.compile(r"(?<![A-Za-z0-9])[0-9a-f]{12,}(?![A-Za-z0-9])")
FILE_PATH = re.compile(r"(?<![:/\w])(?:/[\w.@%+~<>*-]+){2,}/?")
URL = re.compile(r"(\w+://[^/\s\"']+)/[^\s\"',)]*")


def mask_word(word: str) -> str:
    """A word with what varies replaced. The host of a URL stays: it says who was called."""
    if "/" in word:
        word = URL.sub(r"\1/" + WILDCARD, word)
        word = FILE_PATH.sub(WILDCARD, word)
    word = VARIABLE.sub(WILDCARD, word)
    return HEXADECIMAL.sub(WILDCARD, word) if len(word) > 11 else word


class Template:
    """One cluster. `words` narrows to what all its messages have in common."""

    __slots__ = ("identity", "words")

    def __init__(self, identity: int, words: list[str]) -> None:
        self.identity = identity
        self.words = words

    @property
    def text(self) -> str:
        return " ".join(self.words)


class TemplateMiner:
    """`add` gives the template of a message. At most `max_templates` are made; what comes after shares one."""

    def __init__(self, *, similarity: float = 0.6, max_templates: int = 800) -> None:
        self.similarity = similarity
        self.max_templates = max_templates
        self.templates: list[Template] = []
        self._tree: dict[tuple[int, str], list[Template]] = {}
        self._masked: dict[str, str] = {}
        self._known: dict[str, Template] = {}

    def mask(self, message: str) -> list[str]:
        memo = self._masked
        return [memo.get(word) or self._mask(word) for word in message.split(None, MAX_WORDS)[:MAX_WORDS]]

    def _mask(self, word: str) -> str:
        masked = mask_word(word)
        # Long words that vary are mostly seen once: remembering them would push the others out.
        if masked == word or len(word) <= 8:
            if len(self._masked) >= MEMO_SIZE:
                self._masked.clear()
            self._masked[word] = masked
        return masked

    def add(self, message: str) -> tuple[Template, str]:
        """The template, and the masked message: equal messages share it, so callers may remember by it."""
        words = self.mask(message)
        masked = " ".join(words)
        template = self._known.get(masked)
        if template is None:
            template = self._place(words)
            if len(self._known) >= MEMO_SIZE:
                self._known.clear()
            self._known[masked] = template
        return template, masked

    def _place(self, words: list[str]) -> Template:
        leaf = self._tree.setdefault((len(words), branch_word(words)), [])
        best, score = self._closest(leaf, words)
        if best is not None and score >= self.similarity:
            best.words = [old if old == new else WILDCARD for old, new in zip(best.words, words, strict=True)]
            return best
        if len(self.templates) >= self.max_templates:
            return best if best is not None else self._overflow()
        template = Template(len(self.templates), list(words))
        self.templates.append(template)
        leaf.append(template)
        return template

    def _closest(self, leaf: list[Template], words: list[str]) -> tuple[Template | None, float]:
        best, best_score = None, -1.0
        for template in leaf:
            equal = sum(old == new for old, new in zip(template.words, words, strict=True))
            score = equal / len(words) if words else 1.0
            if score > best_score:
                best, best_score = template, score
        return best, best_score

    def _overflow(self) -> Template:
        leaf = self._tree.setdefault((-1, ""), [])
        if not leaf:
            leaf.append(Template(len(self.templates), [OVERFLOW]))
            self.templates.append(leaf[0])
        return leaf[0]


def branch_word(words: list[str]) -> str:
    """The first word that does not vary, of the first three: where in the tree a message belongs."""
    return next((word for word in words[:3] if WILDCARD not in word), WILDCARD)
