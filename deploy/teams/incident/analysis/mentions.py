"""Which other services a message names: the names the run knows, and hosts it has not heard of."""

from __future__ import annotations

import re
from collections.abc import Iterable

BEFORE = (
    r"(?:\b(?:to|from|upstream|calling|call|contact|reach|reaching|with|by|at|via|against|service"
    r"|dependency|host|peer"
    r"|target|client|backend|for|of|on|named?|server|downstream|connecting|dialing|querying|invoking"
    r"|provider)[\s:=\"'\[(`]+"
    r"|://|[=@\"'\[(`>/])"
)
AFTER = (
    r"(?=[.:]\w|[\"'\])`]|\s+(?:service|is|was|returned|responded|replied|answered|timed|timeout"
    r"|refused|did|not|unreachable"
    r"|unavailable|connection|request|call|failed|down|gave|took|client|api|server|cluster|backend"
    r"|upstream|rejected|closed))"
)
UNKNOWN = re.compile(
    r"(?:\b(?:upstream|peer|target|dependency|backend|host|remote|dest|destination|downstream|addr"
    r"|server|callee|endpoint)"
    r"[=:]\s*\"?(?:\w+://)?|\w+://|\b(?:dial tcp|(?:connect|connecting|connection|call|request"
    r"|handshake|talking) (?:to|with)"
    r"|calling|contacting|reaching|querying|(?:response|answer|reply|timeout|error) (?:from|on)|waiting (?:for|on)"
    r"|(?:refused|reset|closed|rejected|dropped) by)\s+(?:(?:host|server|upstream|service) )?[\"'`]?)"
    r"([a-z][a-z0-9]*(?:[._-][a-z0-9]+)*)",
    re.IGNORECASE,
)
"""A host in an address, or a name behind words after which one names whom one talked to."""
ADDRESS = re.compile(r"(?<![\w./-])([a-z][a-z0-9]*(?:[._-][a-z0-9]+)*):\d{2,5}(?!\w)", re.IGNORECASE)
STATE = re.compile(
    r"(?:^|[\s:\]\"'])([a-z][a-z0-9]*(?:[._-][a-z0-9]+)*) (?:is |was )?(?:currently |temporarily )?"
    r"(?:unavailable|unreachable|unresponsive|not responding|not reachable|is down)\b",
    re.IGNORECASE,
)
SOURCE_FILE = re.compile(r"\.(?:java|kt|scala|py|go|js|ts|tsx|rb|rs|c|cc|cpp|cs|php|h)$", re.IGNORECASE)
ACTING = re.compile(
    r"\b(?:upstream|service|dependency|provider|backend|server|host|partner|call to|request to"
    r"|contacting|connecting to) [\"'`]?"
    r"([a-z][a-z0-9]*(?:[._-][a-z0-9]+)*)[\"'`]?:? (?:returned|failed|is|was|timed|timeout|unavailable"
    r"|unreachable|refused|did|not"
    r"|responded|rejected|down|closed|answered|gave)\b",
    re.IGNORECASE,
)
SUFFIX = re.compile(
    r"\.(?:internal|local|svc|cluster|default|prod|production|int|lan|corp|intra|consul|mesh)(?:\..*)?$",
    re.IGNORECASE,
)
PUBLIC = re.compile(
    (
        r"(?:(?:api|www|rest|app|gateway|gw|sandbox|v\d|eu|us|ws)[.-])*([\w-]+)\.(?:com|net|org|io|dev|app"
        r"|co|cloud|example)(?:\.\w\w)?"
    ),
    re.IGNORECASE,
)
"""A public host: the label before its top-level domain is whose it is."""
NOT_A_NAME = frozenset(
    "localhost the a an upstream server database db host client service backend peer remote http https tcp tls ssl "
    "connection request response timeout error unknown null none local default internal this that "
    "its all any on at in "
    "to from for with get post put delete line code errno status port pid id size count max min "
    "attempt handler thread pool "
    "temporarily currently resource feature page endpoint node cluster slots replica it they we "
    "process job worker main and or "
    "was is has had be been after before while during by via at least most more than pod container "
    "instance network feed".split()
)


class Mentions:
    """Finds the names of services in messages. `names` are the ones known from anywhere in the run's files."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = sorted({name for name in names if len(name) > 1}, key=lambda name: (-len(name), name))
        self._known = {canonical(name): name for name in self.names}
        self._pattern = self._compiled()
        self.by_masked_text = not any(letter.isdigit() for name in self.names for letter in name)
        """Whether a masked message still names what the message named."""

    def _compiled(self) -> re.Pattern[str] | None:
        if not self.names:
            return None
        compound = [flexible(name) for name in self.names if re.search(r"[-_.]", name)]
        plain = [re.escape(name) for name in self.names if not re.search(r"[-_.]", name)]
        choices = []
        if compound:
            choices.append(rf"(?<![A-Za-z0-9_-])({'|'.join(compound)})(?![A-Za-z0-9])(?!-[a-z]{{3,}}\b)")
        if plain:
            either = "|".join(plain)
            choices.append(rf"{BEFORE}({either})(?![A-Za-z0-9_-])")
            choices.append(rf"(?<![A-Za-z0-9_.-])({either}){AFTER}")
        return re.compile("|".join(choices), re.IGNORECASE)

    def find(self, message: str, own: str) -> tuple[str, ...]:
        """The services named, without the one that speaks, in order of appearance."""
        found: dict[str, None] = {}
        if self._pattern is not None:
            for match in self._pattern.finditer(message):
                word = next(group for group in match.groups() if group is not None)
                found[self._known.get(canonical(word), word)] = None
        # A line may begin with the name of its own service: that is no mention.
        found.pop(own, None)
        if not found:
            for match in (
                each for pattern in (UNKNOWN, ACTING, ADDRESS, STATE) for each in pattern.finditer(message)
            ):
                word = host_name(match[1])
                if word:
                    found[self._known.get(canonical(word), word)] = None
        found.pop(own, None)
        return tuple(found)


def flexible(name: str) -> str:
    return r"[-_.]".join(re.escape(part) for part in re.split(r"[-_.]", name))


def canonical(name: str) -> str:
    return re.sub(r"[-_. ]", "-", name.lower())


def host_name(word: str) -> str:
    """A host without the domains around its name; empty where it is no name."""
    word = SUFFIX.sub("", word).strip(".-_")
    public = PUBLIC.fullmatch(word)
    if public:
        word = public[1]
    bare = word.lower()
    return (
        ""
        if bare in NOT_A_NAME or len(bare) < 3 or bare.replace(".", "").isdigit() or SOURCE_FILE.search(word)
        else word
    )
