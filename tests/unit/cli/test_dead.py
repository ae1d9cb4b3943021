from __future__ import annotations

import msgspec
from rich.console import Console

from shanty_cli.dead import lines, table
from shanty_cli.letters import Letter, Retried, Shown, told
from shanty_cli.output import FILE_WIDTH
from shanty_protocol import LetterDropped, MailRetried
from support.script import Script

HOSTILE = "evil\x1b[2J\ntext"
LETTER = Letter(
    letter="0.4711",
    fate="open",
    run="0-r",
    agent="logs",
    code="unknown_kind",
    reason=HOSTILE,
    at_ms=1_000,
    mail="shanty.0.logs.0-r.0.lead.9",
    trace="ab" * 16,
)


def test_a_letter_is_shown_a_fact_a_line_and_its_mail_is_fit_for_a_terminal() -> None:
    said = lines(Shown(letter=LETTER, content='{"kind":"budget.granted"}\x1b[2J', journal=()))
    assert said[:3] == ["letter  0.4711", "fate    open", "at      1970-01-01T00:00:01.000Z"]
    assert "reason  evil\N{REPLACEMENT CHARACTER}[2J text" in said
    assert said[-2:] == ["the mail, as it is stored:", '{"kind":"budget.granted"}\N{REPLACEMENT CHARACTER}[2J']


def test_the_list_says_what_a_letter_is_about() -> None:
    given_up = msgspec.structs.replace(
        LETTER, fate="dropped", mail="", reason="died", thread="0-1", dealt_with_by="ann"
    )
    console = Console(width=FILE_WIDTH)
    with console.capture() as captured:
        console.print(table([LETTER, given_up]))
    rows = [line.split() for line in captured.get().splitlines()]
    assert rows[0] == ["letter", "at", "run", "agent", "about", "code", "reason", "fate"]
    assert LETTER.mail in rows[1] and "open" in rows[1]
    assert rows[2][4:6] == ["thread", "0-1"] and rows[2][-3:] == ["dropped", "by", "ann"]


def test_a_retry_says_what_has_become_of_it() -> None:
    begun = Retried(letter="0.9", run="0-r", agent="logs", said="shanty.0.logs.0-r.letter-1.operators.0")
    read = Retried(
        letter="0.9", run="0-r", agent="logs", said=begun.said, read_by="logs-2", thread="0-1", read_at_entry=3
    )
    again = Retried(letter="0.9", run="0-r", agent="logs", said=begun.said, rejected=f"unknown_kind: {HOSTILE}")
    assert told(begun) == "0.9 is stored for logs once more, which has not read it yet"
    assert told(read) == "0.9 was read by logs-2, thread 0-1, at entry 3"
    assert told(again) == "0.9 is a dead letter again: unknown_kind: evil\N{REPLACEMENT CHARACTER}[2J text"


def test_whoever_watches_a_run_sees_what_people_do_about_its_dead_letters(script: Script) -> None:
    script.start()
    letter = "shanty.0.dead.0-r.dead-4711.logs.0"
    retried = MailRetried(at_ms=5, letter=letter, mail=LETTER.mail, person="ann")
    script.write("letter-1", "operators", retried, to="logs")
    script.write("letter-2", "operators", LetterDropped(at_ms=6, letter=letter, reason=HOSTILE), to="dead")
    script.write("letter-3", "mallory", LetterDropped(at_ms=7, letter=letter), to="dead")
    assert script.told[1:] == [
        ("letter-1", "retried", "mail of a dead letter for logs is retried by ann"),
        ("letter-2", "dropped", "a dead letter was dropped: evil\N{REPLACEMENT CHARACTER}[2J text"),
    ]
