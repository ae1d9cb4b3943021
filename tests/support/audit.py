"""What has to be true of a finished run of the ledger team, whatever was killed while it went on."""

from __future__ import annotations

from pathlib import Path

from shanty_protocol import ModelReplied, Outcome, ThreadReplied, ThreadTakenOver, ToolCalled
from shanty_protocol.ids import LOG
from shanty_runtime.verify import audit_of_run
from support.crew import Crew

EFFECTS = ["book 13", "book 16", "book 3", "book 5", "book 8", "ring"]


async def audit(crew: Crew, run: str, outcome: Outcome, ledger: Path, model_calls: Path) -> None:
    assert (outcome.status, outcome.summary) == ("ok", "booked 29; counted 16")
    every_effect_happened_once(run, ledger)
    await journals_are_sound(crew, run)
    stored = await crew.entries(run)
    intents: set[str] = set()
    model_replies: dict[tuple[str, int], int] = {}
    for one in stored:
        address, entry = one.address, one.entry
        if isinstance(entry, ToolCalled):
            intents.add(f"{address.run}.{address.thread}.{entry.call_id}")
        if isinstance(entry, ModelReplied):
            turn = sum(agent == address.agent for agent, _ in model_replies)
            model_replies[address.agent, turn] = entry.at_ms
        assert address.to != "dead", entry
    every_effect_was_announced(run, ledger, intents)
    no_finished_model_call_was_repeated(run, model_calls, model_replies)
    replies = [one for one in stored if isinstance(one.entry, ThreadReplied)]
    assert sorted((one.address.thread, one.address.to) for one in replies) == [
        ("0", "cli"),
        ("0-1", "lead"),
        ("0-1", "lead"),
        ("0-2", "lead"),
    ]
    assert LOG not in {one.address.to for one in replies}


async def journals_are_sound(crew: Crew, run: str) -> None:
    """Nothing in them is wrong, and nothing is left open: no mail, no call, no delegation."""
    found = await audit_of_run(crew.bus, run)
    assert found.is_sound, found.findings
    assert found.replied
    assert (found.open_delegations, found.waiting_mail, found.unsettled_calls) == ((), (), ())


async def journals_have_no_gaps(crew: Crew, run: str) -> None:
    """Each place of each journal is taken once, and nothing was put away as a dead letter."""
    places: dict[tuple[str, str], list[int]] = {}
    for stored in await crew.entries(run):
        assert stored.address.to != "dead", stored.entry
        places.setdefault((stored.address.thread, stored.address.agent), []).append(stored.address.n)
    assert all(sorted(found) == list(range(len(found))) for found in places.values()), places


async def taken_over(crew: Crew, run: str) -> int:
    return sum(isinstance(stored.entry, ThreadTakenOver) for stored in await crew.entries(run))


def every_effect_happened_once(run: str, ledger: Path) -> None:
    lines = [line.split(" ", 1) for line in ledger.read_text().splitlines() if line.startswith(f"{run}.")]
    assert sorted(what for _, what in lines) == EFFECTS
    assert len({key for key, _ in lines}) == len(lines), "a key was used twice"


def every_effect_was_announced(run: str, ledger: Path, intents: set[str]) -> None:
    keys = {line.split(" ")[0] for line in ledger.read_text().splitlines() if line.startswith(f"{run}.")}
    assert keys <= intents, f"effects nobody announced: {keys - intents}"


def no_finished_model_call_was_repeated(run: str, model_calls: Path, replies: dict[tuple[str, int], int]) -> None:
    """A call that began after its turn's reply was in the journal was paid for in vain."""
    for line in model_calls.read_text().splitlines():
        called_run, agent, turn, at_ms = line.split(" ")
        if called_run == run:
            journaled_at_ms = replies[agent, int(turn)]
            assert int(at_ms) <= journaled_at_ms, f"turn {turn} of {agent} was played again after it was journaled"
