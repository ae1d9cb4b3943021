"""What the words of the field point at: level words, symptoms in messages, families of metrics, types of change.

This is what somebody on call knows by heart, about any system. A word here is a hint that is weighed with its
timing; none of them decides anything alone.
"""

from __future__ import annotations

import re

DEBUG, INFO, WARN, ERROR, FATAL = range(5)
LEVEL_NAMES = ("debug", "info", "warn", "error", "fatal")
LEVELS = {
    "trace": DEBUG,
    "debug": DEBUG,
    "fine": DEBUG,
    "finer": DEBUG,
    "finest": DEBUG,
    "verbose": DEBUG,
    "d": DEBUG,
    "info": INFO,
    "notice": INFO,
    "information": INFO,
    "log": INFO,
    "note": INFO,
    "system": INFO,
    "i": INFO,
    "statement": INFO,
    "hint": INFO,
    "detail": INFO,
    "context": INFO,
    "config": INFO,
    "warn": WARN,
    "warning": WARN,
    "w": WARN,
    "error": ERROR,
    "err": ERROR,
    "severe": ERROR,
    "e": ERROR,
    "fatal": FATAL,
    "critical": FATAL,
    "crit": FATAL,
    "alert": FATAL,
    "emerg": FATAL,
    "emergency": FATAL,
    "panic": FATAL,
    "f": FATAL,
}

SYMPTOMS: dict[str, re.Pattern[str]] = {
    name: re.compile(pattern, re.IGNORECASE)
    for name, pattern in {
        "certificate": r"x\.?509|certificate[^.]{0,60}expir|expir[^.]{0,40}certificate|\bcert\b[^.]{0,40}expir"
        r"|cert_has_expired|certificate_expired|certificate verify failed|not ?after\b|certificate is "
        r"not (?:yet )?valid"
        r"|certpathvalidator|pkix path|ssl certificate problem|bad certificate|certificate validity",
        "memory": r"out[ -]?of[ -]?memory|\boom\b|oom[-_ ]?kill|java heap space|gc overhead|cannot allocate memory"
        r"|failed to allocate|memory (?:limit|pressure|exhausted|allocation)|exit(?:ed"
        r"|code)?\W{0,3}(?:with )?(?:code |status )?137"
        r"|bad_alloc|memoryerror|heap (?:exhausted|limit|usage|at|is|out)|(?:rss|resident|working "
        r"set)\b.{0,30}(?:limit|exceed|high)"
        r"|allocation fail",
        "gc": r"\bfull gc\b|\bgc pause|pause full|stop-the-world|garbage collect|\bgc\b.{0,30}(?:took|paused|ms)",
        "overload": r"too many (?:requests|connections|clients|open files|concurrent)|\b429\b|rate.?limit|throttl"
        r"|overload|(?:queue|backlog|buffer)\b.{0,30}(?:full|overflow|exceed|limit|depth)|load.?shed|shedding"
        r"|at capacity|over capacity|back-?pressure|saturat|reject\w*.{0,40}(?:pool|queue|executor|busy|load)"
        r"|pool.{0,30}exhaust|exhausted.{0,30}(?:pool|worker|thread|connection)"
        r"|(?:no|all) (?:free |available |idle )?(?:worker|thread|connection)s?\b.{0,30}(?:available|busy|in use)?"
        r"|server (?:is )?(?:too )?busy|concurrency limit|max(?:imum)? (?:connections|concurrency|clients)",
        "connection": r"connection[^.]{0,40}(?:refused|reset|closed|aborted|lost|dropped|terminated|failed|broken)"
        r"|econn(?:refused|reset|aborted)|no route to host|(?:host|network|is|are) unreachable|broken pipe"
        r"|(?:could not|cannot|can't|unable to|failed to|failure) (?:connect|reach|establish|open connection)"
        r"|connect(?:\(\)|ion)? fail|name resolution|no such host|unavailable|not reachable|unreachable|unresponsive"
        r"|no (?:healthy|live) upstream|prematurely closed|circuit.{0,12}open|server has gone away"
        r"|\beof\b|socket hang up"
        r"|not responding|no response|lost contact|is down\b|service outage|bad gateway|\b50[234]\b",
        "timeout": (
            r"time[d]?[ -]?out|timeout|deadline.{0,12}exceeded|etimedout|took too long|gave up "
            r"waiting|no answer"
        ),
        "fault": r"null ?pointer|null reference|undefined is not|cannot read propert|\b(?:type|key"
        r"|attribute|index|value"
        r"|name|reference|runtime|assertion|zerodivision|syntax|import|lookup)error\b|no ?such ?method|class ?cast"
        r"|illegal ?(?:state|argument)|class ?not ?found|nil pointer|seg(?:mentation )?fault|sigsegv"
        r"|\bpanic\b|assert\w* fail"
        r"|unhandled|uncaught|traceback|unexpected (?:null|nil|field|token|type|value|end|character)"
        r"|(?:de)?seriali[sz]"
        r"|schema|(?:no such|unknown|missing|undefined) (?:column|field|table|function|method|attribute|property)"
        r"|does not exist|out of (?:range|bounds)|division by zero|stack ?overflow|\bnpe\b|invalid "
        r"(?:state|cast|type)"
        r"|exception|regression|incompatible|not implemented|violat|malformed|corrupt",
        "config": r"config|setting|misconfig|invalid (?:value|option|credential|parameter|url|endpoint|host|dsn)"
        r"|missing (?:env|key|required|option|parameter|secret|variable)|environment variable|permission denied"
        r"|unauthori[sz]ed|access denied|forbidden|authentication failed|\b40[13]\b|unknown (?:host"
        r"|key|option)|feature.?flag"
        r"|not (?:set|configured|allowed|permitted)|credential|api key|invalid token|no such (?:bucket"
        r"|queue|topic|database)"
        r"|wrong (?:password|host|endpoint|region)|allow-?list|feature|parameter|\bflag\b|property",
        "crash": r"crash|core dump|no space left|disk (?:is )?full|read-only (?:file system|mode)|shut(?:ting)? ?down"
        r"|terminating|database system (?:was|is)|in recovery|recovery mode|not accepting|failover"
        r"|primary|leader election"
        r"|replica|i/o error|node (?:is )?(?:down|lost|not ready)|lost quorum|maintenance|killed|exit(?:ed|ing)",
        "restart": r"\bre-?start(?:ed|ing)?\b|\bboot(?:ed|ing)?\b|listening on|ready (?:to|for) "
        r"(?:accept|serve|connections|start)"
        r"|\bstart(?:ed|ing|up)\b.{0,40}(?:version|server|service|pid|process|application|worker|up"
        r"|port|in \d)|server start",
    }.items()
}

ADVANCE_NOTICE = re.compile(
    (
        r"will expire|expires? (?:in|on|soon)|days? (?:left|remaining|until)|renew(?:ed|al)|rotat|about "
        r"to expire|expiring"
    ),
    re.IGNORECASE,
)
"""A certificate that is going to expire, or has been renewed: not one that has expired."""

FAULT_LINE = re.compile(
    r"\s*(?:Caused by: |panic: |Exception in .{0,60}? )?[\w.$]*(?:Error|Exception|Throwable|Failure|panic)\b"
)
"""The line of a stack trace that says what went wrong."""

FAMILIES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(pattern, re.IGNORECASE))
    for name, pattern in (
        ("errors", r"err|fail|5xx|exception|fault|reject|drop|unsuccess"),
        ("latency", r"laten|duration|response[_ .]?time|p\d\d|elapsed|_ms\b|\bms\b|seconds|rtt|slow|wait"),
        ("memory", r"mem|heap|rss|working[_ .]?set|resident"),
        ("cpu", r"cpu|load"),
        ("restarts", r"restart|uptime|crash"),
        ("saturation", r"queue|backlog|pool|conn|thread|worker|pending|in[_ .]?flight|lag|saturat|depth|concurr"),
        ("traffic", r"req|rps|qps|tps|rpm|throughput|hits|traffic|calls|ops|rate|visits|sessions|messages|volume"),
        ("availability", r"\bup\b|health|avail|alive|probe|ready|success"),
        ("disk", r"disk|fs|storage|volume_used|inode"),
        ("gc", r"\bgc|garbage"),
    )
)

CHANGE_TYPES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(pattern, re.IGNORECASE))
    for name, pattern in (
        ("rollback", r"roll(?:ed|ing)?[-_ ]?back|revert|undo|back ?out"),
        ("config", r"config|setting|feature|flag|toggle|param|secret|env|limit|tuning|switch|property|quota"),
        ("deploy", r"deploy|release|roll(?:ed)?[-_ ]?out|ship|upgrade|version|build|publish|image|hotfix|patch"),
        ("infrastructure", r"scal|infra|node|migrat|maint|cert|network|dns|restart"),
    )
)

COMPLAINT = re.compile(
    r"error|fail|broken|down\b|outage|slow|time[d]?[ -]?out|timeout|can ?not|can't|cant\b|unable|not "
    r"work|does ?n[o']t work"
    r"|stuck|hang|crash|unavailable|lost|stops?\b|stopped|refus|declin|reject|5\d\d|denied|warning"
    r"|insecure|missing|wrong"
    r"|never (?:arriv|load|complet|finish)|not (?:load|respond|complet|process|reach)|spinn|delay"
    r"|won't|blank|unreachable|issue",
    re.IGNORECASE,
)


def symptoms(text: str) -> tuple[str, ...]:
    """What a message points at, the most telling first."""
    found = [name for name, pattern in SYMPTOMS.items() if pattern.search(text)]
    if "certificate" in found and ADVANCE_NOTICE.search(text):
        found.remove("certificate")
    return tuple(found)


def family(metric: str) -> str:
    """What a metric measures, judged by its name; `other` where the name does not say."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", metric)
    return next((name for name, pattern in FAMILIES if pattern.search(spaced)), "other")


def change_type(*texts: str) -> str:
    """`rollback`, `config`, `deploy`, `infrastructure` or `other`: the first text that says decides."""
    for text in texts:
        for name, pattern in CHANGE_TYPES:
            if text and pattern.search(text):
                return name
    return "other"
