"""Who decides on a call, on real processes: a rule, or a person, for once or for the whole run."""

from __future__ import annotations

import asyncio
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shanty_cli.exits import UsageError
from shanty_cli.inbox import decide, open_requests
from shanty_cli.waiting import Waiting
from shanty_protocol import (
    ApprovalDecided,
    ApprovalRequested,
    ApprovalRuled,
    ApprovalStanding,
    DelegationSent,
    MailRejected,
    Outcome,
    ThreadReplied,
    ThreadResumed,
    ThreadWaiting,
)
from shanty_protocol.ids import OPERATORS
from shanty_protocol.subjects import decision_address, parse_entry
from shanty_runtime.bus import Stored
from shanty_runtime.bus.hearing import Hearing
from support.crew import TEAMS, Crew, crew, until

LANES = ("0",)
SEEDS = range(20)
GUARDED = "{pay: {auto: {allowIf: {cents: {atMost: 10}}, else: ask}}, delegate: {teller: ask}}"


def payers(folder: Path, permissions: str = "{pay: ask}", **limits: float) -> Path:
    """The team of payers with other permissions and limits."""
    team = folder / "payers"
    shutil.copytree(TEAMS / "payers", team, ignore=shutil.ignore_patterns("__pycache__"))
    given = {"max_turns": 2000, "max_attempts": 100, "delegation_deadline_s": 600, "decision_deadline_s": 600}
    settings = {
        "apiVersion": "shanty/v1",
        "name": "payers",
        "lead": "lead",
        "specialists": "[clerk, teller, office]",
        "permissions": permissions,
        "limits": "{" + ", ".join(f"{name}: {value}" for name, value in (given | limits).items()) + "}",
    }
    (team / "team.yaml").write_text("".join(f"{name}: {value}\n" for name, value in settings.items()))
    return team


def environment(folder: Path) -> dict[str, str]:
    return {"LEDGER_FILE": str(folder / "ledger.txt")}


def ledger(folder: Path) -> list[str]:
    """What was paid, each payment as `thread cents`."""
    path = folder / "ledger.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    return sorted(f"{line.split()[0].split('.')[1]} {line.split()[1]}" for line in lines)


async def asked(running: Crew, about: Callable[[Waiting], bool]) -> Waiting:
    """The one that waits for a person and is about this, once it is there."""
    found: list[Waiting] = []

    async def there() -> bool:
        found[:] = [each for each in await open_requests(running.bus, LANES) if about(each)]
        return bool(found)

    await until(there, 90, "it waits for a person")
    return found[0]


async def allow(running: Crew, request: Waiting, *, for_run: bool = False, wait_s: float = 30) -> None:
    decision = "allow_for_thread" if for_run else "allow"
    given = await decide(
        running.bus,
        LANES,
        request.id,
        decision,  # type: ignore[arg-type]  # one of two words
        message="",
        arguments=None,
        wait_s=wait_s,
        for_run=for_run,
    )
    assert given.ours, given


async def stored_of(running: Crew, run: str, kind: type) -> list[Stored]:
    return [stored for stored in await running.entries(run) if isinstance(stored.entry, kind)]


async def guarded_run(running: Crew, folder: Path) -> None:
    """Two clerks and a teller pay: what is small by the rule, the rest as people say."""
    await running.start("0-r", "clerk pay 5 200 300, clerk pay 400 500, teller 7")
    teller = await asked(running, lambda each: each.tool == "delegate")
    assert teller.arguments == {"specialist": "teller", "objective": "pay", "input": {"cents": 7}}
    assert not [one for one in await stored_of(running, "0-r", DelegationSent) if one.address.to == "teller"]
    second = await asked(running, lambda each: each.arguments == {"cents": 400})
    first = await asked(running, lambda each: each.arguments == {"cents": 200})
    assert first.why == "clerk may call pay without asking where cents is at most 10, and here cents is 200"
    await allow(running, first, for_run=True)
    await allow(running, second)
    await allow(running, teller)
    assert (await running.reply("0-r", within_s=120)).status == "ok"
    assert ledger(folder) == ["0-1 200", "0-1 300", "0-1 5", "0-2 400", "0-2 500", "0-3 7"]
    assert len(await stored_of(running, "0-r", ApprovalRequested)) == 3
    (standing,) = await stored_of(running, "0-r", ApprovalStanding)
    ruled = {}
    for stored in await stored_of(running, "0-r", ApprovalRuled):
        assert isinstance(stored.entry, ApprovalRuled)
        ruled[stored.address.thread, stored.entry.arguments["cents"]] = stored.entry.standing or stored.entry.rule
    rule = "cents is at most 10"
    assert ruled == {("0-1", 5): rule, ("0-2", 500): standing.address.subject, ("0-3", 7): rule}
    assert not await stored_of(running, "0-r", MailRejected)


async def test_a_rule_and_people_decide_on_calls_and_delegations_once_or_for_the_whole_run(tmp_path: Path) -> None:
    team = payers(tmp_path, GUARDED)
    async with crew(team, tmp_path, {"lead": 1, "clerk": 1, "teller": 1}, environment(tmp_path)) as running:
        await guarded_run(running, tmp_path)


@pytest.mark.slow
async def test_in_accounts_of_their_own_specialists_read_what_people_allowed_for_the_run(tmp_path: Path) -> None:
    team, agents = payers(tmp_path, GUARDED), {"lead": 1, "clerk": 1, "teller": 1}
    async with crew(team, tmp_path, agents, environment(tmp_path), zones=True) as running:
        await guarded_run(running, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("zones", [False, True], ids=["one account", "in zones"])
async def test_a_deadline_does_not_pass_while_people_think_two_levels_down_and_everything_is_restarted(
    tmp_path: Path, zones: bool
) -> None:
    deadline_s = 15.0
    team = payers(tmp_path, delegation_deadline_s=deadline_s)
    agents = {"lead": 1, "office": 1, "clerk": 1}
    async with crew(team, tmp_path, agents, environment(tmp_path), zones=zones) as running:
        await running.start("0-r", "office clerk pay 100")
        request = await asked(running, lambda each: each.tool == "pay")

        async def all_know() -> bool:
            return len(await stored_of(running, "0-r", ThreadWaiting)) == 2

        await until(all_know, 60, "the office and the lead know that somebody waits")
        for replica in running.replicas:
            replica.kill()
        for replica in running.replicas:
            replica.respawn()
        too_late_s = request.asked_at_ms / 1000 + deadline_s + 5

        async def too_late() -> bool:
            return time.time() > too_late_s

        await until(too_late, deadline_s + 30, "the deadlines would have passed")
        await allow(running, request)
        assert (await running.reply("0-r")).result == {"0-1": "all is paid"}
        assert ledger(tmp_path) == ["0-1-1 100"]
        assert len(await stored_of(running, "0-r", ThreadResumed)) == 2
        for stored in await stored_of(running, "0-r", ThreadReplied):
            assert isinstance(stored.entry, ThreadReplied) and stored.entry.outcome.status == "ok"


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_whoever_is_killed_what_is_decided_counts_once_and_every_thread_replies_once(tmp_path: Path) -> None:
    team = payers(tmp_path, GUARDED)
    slowly = {**environment(tmp_path), "SHANTY_REHEARSAL_PACE_S": "0.02"}
    agents = {"lead": 2, "clerk": 2, "teller": 2, "office": 2}
    async with crew(team, tmp_path, agents, slowly) as running:
        for seed in SEEDS:
            chance, run = random.Random(seed), f"0-seed-{seed}"
            kills = [asyncio.create_task(running.kill_one(chance, 3, agent)) for agent in agents]
            await running.start(run, "clerk pay 5 200 300, clerk pay 400 500, teller 7, office clerk pay 600 8")
            answering = asyncio.create_task(allow_all(running, run, chance))
            outcome = await running.reply(run, within_s=120)
            await asyncio.gather(*kills)
            answering.cancel()
            assert outcome.status == "ok"
            replies: dict[str, list[Outcome]] = {}
            for stored in await stored_of(running, run, ThreadReplied):
                assert isinstance(stored.entry, ThreadReplied)
                replies.setdefault(stored.address.thread, []).append(stored.entry.outcome)
            assert {thread: len(each) for thread, each in replies.items()} == dict.fromkeys(
                ("0", "0-1", "0-2", "0-3", "0-3-1", "0-4"), 1
            )
            assert not [stored for stored in await running.entries(run) if stored.address.to == "dead"]
            await every_waiting_ended(running, run)
        keys = [line.split()[0] for line in (tmp_path / "ledger.txt").read_text().splitlines()]
        assert len(keys) == len(set(keys)), "an effect was repeated"


async def every_waiting_ended(running: Crew, run: str) -> None:
    """Whoever was told that somebody waits was told that it is over, by another word or by the reply."""
    waiting: dict[str, bool] = {}
    for stored in await running.entries(run):
        match stored.entry:
            case ThreadWaiting():
                waiting[stored.address.thread] = True
            case ThreadResumed() | ThreadReplied():
                waiting[stored.address.thread] = False
    assert waiting and not any(waiting.values()), waiting


async def allow_all(running: Crew, run: str, chance: random.Random) -> None:
    """A person who agrees to everything as soon as it is asked, now and then for the whole run."""
    while True:
        for each in await open_requests(running.bus, LANES):
            assert each.run == run
            try:
                await allow(running, each, for_run=chance.random() < 0.3, wait_s=0)
            except UsageError:
                pass  # it was void by then
        await asyncio.sleep(0.05)


# Many runs that wait


MANY = 10_000
AT_ONCE = 64
ROOM_MIB = 20.0


def resident_mib(pid: int) -> float:
    """The memory a process has, as the kernel counts it."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_ten_thousand_runs_that_wait_for_people_cost_their_lead_no_memory_and_resume_at_once(
    tmp_path: Path,
) -> None:
    async with crew(payer(tmp_path), tmp_path, {"lead": 1}, environment(tmp_path)) as running:
        (lead,) = running.replicas
        await parked(running, 0, 1)
        before_mib = resident_mib(lead.pid)
        await parked(running, 1, MANY)
        grown_mib = resident_mib(lead.pid) - before_mib
        assert grown_mib < ROOM_MIB, f"{grown_mib:.1f} MiB more than before"
        for number in (0, MANY // 2, MANY - 1):
            (request,) = await stored_of(running, f"0-{number}", ApprovalRequested)
            began_s = time.monotonic()
            await allow_at_once(running, request)
            assert (await running.reply(f"0-{number}")).summary == "paid 5"
            assert time.monotonic() - began_s < 1.0


def payer(folder: Path) -> Path:
    """A lead that pays by itself, once somebody has agreed."""
    team = folder / "payer"
    (team / "agents").mkdir(parents=True)
    shutil.copy(TEAMS / "payers" / "tools.py", team)
    (team / "team.yaml").write_text("apiVersion: shanty/v1\nname: payer\nlead: lead\npermissions: {pay: ask}\n")
    (team / "agents" / "lead.md").write_text("---\ndescription: Pays.\ntools: [pay]\n---\nPays.\n")
    (team / "rehearsal.py").write_text(REHEARSAL)
    return team


REHEARSAL = """\
from shanty_runtime import Move, Turn, call


def lead(turn: Turn) -> Move:
    paid = turn.results_of("pay")
    return call("submit_result", summary=str(paid[0].value)) if paid else call("pay", cents=5)
"""


async def parked(running: Crew, first: int, end: int) -> None:
    """Start so many runs, and wait until each of them waits for a person."""
    asking = Hearing(lambda message: parse_entry(message.subject).run)
    asking.attach(await running.bus.connection.listen(f"shanty.feed.0.{OPERATORS}.>", asking.put))
    for number in range(first, end, AT_ONCE):
        runs = {f"0-{each}" for each in range(number, min(number + AT_ONCE, end))}
        await asyncio.gather(*map(running.start, runs))
        async with asyncio.timeout(120):
            while runs:
                runs.discard(await anext(asking))
    await asking.close()


async def allow_at_once(running: Crew, request: Stored) -> None:
    assert isinstance(request.entry, ApprovalRequested)
    decision = ApprovalDecided(
        at_ms=int(time.time() * 1000),
        to_thread=request.address.thread,
        request=request.address.subject,
        digest=request.entry.digest,
        decision="allow",
        person="mara",
    )
    await running.bus.journals.append(decision_address(request.address), decision)
