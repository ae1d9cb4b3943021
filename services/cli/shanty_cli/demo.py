"""`shanty demo`: an incident, a team that analyses it, and a `kill -9` in the middle of its work.

Everything is real but the model: nats-server, one process for each agent and two for the logs, the tools and what
they find. With --model the model is real as well. The process that reads the logs is killed once it has a first
result and has not answered yet; the other one goes on from the journal. What is claimed at the end is read from the
journals, and the cause is compared with what the generator of the incident had put there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.markdown import Markdown

from shanty_cli.dev_bus import STORE_MAX_BYTES, Found, Home, bus_settings, own_server
from shanty_cli.exits import DONE, FAILED, NotRunning, UsageError
from shanty_cli.fleet import Fleet, environment_for, members_of
from shanty_cli.output import Output
from shanty_cli.report import report
from shanty_cli.run import model_of
from shanty_cli.start import AGENT, input_files, new_ids, start, upload
from shanty_cli.text import clean, duration, plural
from shanty_cli.view import RunView
from shanty_cli.watch import watch
from shanty_protocol import ProtocolError, ToolReturned
from shanty_runtime.bus import Bus, Stored, create_layout
from shanty_runtime.errors import ConfigError, WorkspaceError
from shanty_runtime.models.anthropic import require_credentials
from shanty_runtime.models.capabilities import claude_name
from shanty_runtime.team import Team, load_team
from shanty_runtime.tools.workspace import Workspace

TEAM = Path("deploy/teams/incident")
VICTIM = "logs"
PACE_S = 0.8
LEASE_S = 2
DEADLINE_S = 100.0
UNREHEARSED_DEADLINE_S = 1800.0
REHEARSAL = "rehearsal"
CLAUDE = "sonnet"
"""What `claude` means."""
MEMO = "memo.md"
NOBODY_KILLED = f"nobody was killed: no {VICTIM} thread had a result before its reply"


class Kill(msgspec.Struct, frozen=True, kw_only=True):
    """A process that was killed in the middle of a thread."""

    thread: str
    replica: str
    pid: int
    entries_before: int


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the demo shows, or why it does not."""

    killed: Kill | None
    taken_over_by: str
    entries_after: int
    twice: tuple[str, ...]
    found: str
    truth: str
    rehearsed: bool = True
    """Any other model may go another way, on which there is no moment for the kill."""

    @property
    def no_chance(self) -> bool:
        return self.killed is None and not self.rehearsed

    @property
    def failures(self) -> tuple[str, ...]:
        checks = (
            (self.killed is not None or self.no_chance, NOBODY_KILLED),
            (bool(self.taken_over_by) or self.no_chance, "the thread was not taken over by another process"),
            (self.entries_after > 0 or self.no_chance, "the other process wrote nothing"),
            (not self.twice, f"done twice: {', '.join(self.twice)}"),
            (self.found == self.truth, f"the first cause is {self.found}, and it was {self.truth}"),
        )
        return tuple(sentence for holds, sentence in checks if not holds)


async def demo(seed: int, keep: Path | None, model: str, out: Output) -> int:
    team = load_team(find_team())
    model = model_named(team, model, out)
    with _workplace(keep) as place:
        incident = place / f"incident-{seed}"
        out.say(
            f"An incident is made up (seed {seed}): logs, metrics, deploys and tickets of a few services. A lead and "
            f"four specialists look into it, each a process of its own on NATS, two of them for the {VICTIM}. Once "
            f"one of those two is in the middle of its work it is ended by kill -9, and the other goes on."
        )
        if model != REHEARSAL:
            out.say(f"Every agent speaks with {model}, which may take some minutes.")
        await asyncio.to_thread(_generate, team.folder, seed, incident)
        async with own_server(Home(place), "run", team.name) as own, Bus(bus_settings(own)) as bus:
            return await _play(team, model, incident, own, bus, place, out, kept=keep is not None)


def find_team() -> Path:
    """The incident team of the checkout we are in, or of the one this program is installed from."""
    here = Path.cwd()
    for folder in (here, *here.parents, *Path(__file__).resolve().parents):
        if (folder / TEAM / "team.yaml").is_file():
            return folder / TEAM
    raise UsageError(f"{TEAM} is not here nor above: run this in a checkout of Shanty")


def model_named(team: Team, name: str, out: Output) -> str:
    """The model that is meant. Raises UsageError or ConfigError where it cannot be had."""
    model = CLAUDE if name == "claude" else name
    if claude_name(model) is not None:
        try:
            require_credentials(os.environ)
        except ConfigError as error:
            raise UsageError(
                "Claude needs a key: set ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN, or ANTHROPIC_BASE_URL to a "
                "gateway that has one; without a model the demo needs none"
            ) from error
    return model_of(team, model, out)


async def _play(
    team: Team, model: str, incident: Path, own: Found, bus: Bus, place: Path, out: Output, *, kept: bool
) -> int:
    ids, files = new_ids(), input_files(incident)
    await create_layout(
        bus, agents=[agent.name for agent in team.agents], max_bytes=STORE_MAX_BYTES, ack_wait_s=LEASE_S
    )
    environment = environment_for(
        team,
        nats_url=own.nats_url,
        monitor_url=own.monitor_url,
        model=model,
        pace_s=PACE_S,
        lease_s=LEASE_S,
        own_server=True,
    )
    members = members_of(team, {VICTIM: 2})
    async with Fleet(members, environment, place / "logs", say=out.say, restart=False) as fleet:
        shown = [file for file in files if file.path != "truth.json"]
        await upload(bus, ids, shown, lambda stored, total: None)
        await fleet.wait_ready(bus)
        for service in fleet.services:
            out.say(f"  {service.replica:<12} process {service.pid}")
        await start(bus, ids, team, team.goal, shown)
        view, killer = RunView(run=ids.run), Killer(fleet, out)
        deadline_s = DEADLINE_S if model == REHEARSAL else UNREHEARSED_DEADLINE_S
        try:
            await asyncio.wait_for(watch(bus, view, out.screen(), step=killer), deadline_s)
        except TimeoutError:
            raise NotRunning(
                f"the run has not ended within {deadline_s:g} s; the services' logs: {place / 'logs'}"
            ) from None
        memo = await _memo(bus, ids.run)
    truth = msgspec.json.decode((incident / "truth.json").read_bytes())
    verdict = judge(view, killer, truth, rehearsed=model == REHEARSAL)
    _save(place, view, memo)
    _tell(view, verdict, memo, fleet, out)
    _tell_how_to_go_on(view, place if kept else None, out, rehearsed=verdict.rehearsed)
    return FAILED if verdict.failures else DONE


class Killer:
    """Ends the process that has the victim's thread, right after that thread's first result."""

    def __init__(self, fleet: Fleet, out: Output) -> None:
        self.fleet = fleet
        self.out = out
        self.kill: Kill | None = None
        self.stored: list[Stored] = []

    async def __call__(self, stored: Stored, view: RunView) -> None:
        self.stored.append(stored)
        if self.kill is not None or stored.address.agent != VICTIM:
            return
        entry = _entry(stored)
        service = self.fleet.named(entry.by) if isinstance(entry, ToolReturned) else None
        if service is None or not service.running:
            return
        thread = view.threads[stored.address.thread]
        os.kill(service.pid, signal.SIGKILL)
        self.kill = Kill(
            thread=thread.thread, replica=service.replica, pid=service.pid, entries_before=thread.entries
        )
        self.out.say(f"kill -9 {service.pid}: {service.replica} is dead in the middle of thread {thread.thread}")


def judge(view: RunView, killer: Killer, truth: dict[str, Any], *, rehearsed: bool) -> Verdict:
    """What the journals say happened, beside what was meant to happen."""
    kill = killer.kill
    thread = None if kill is None else view.threads[kill.thread]
    takeovers = (
        []
        if thread is None or kill is None
        else [each.after for each in thread.takeovers if each.before == kill.replica and each.after != kill.replica]
    )
    return Verdict(
        killed=kill,
        taken_over_by=takeovers[0] if takeovers else "",
        entries_after=0 if thread is None or kill is None else thread.entries - kill.entries_before,
        twice=tuple(twice(killer.stored)),
        found=first_cause(None if view.outcome is None else view.outcome.result),
        truth=cause(truth.get("kind"), truth.get("service")),
        rehearsed=rehearsed,
    )


def first_cause(result: dict[str, Any] | None) -> str:
    causes = (result or {}).get("causes")
    if not isinstance(causes, list):
        return "not said"
    if not causes:
        return cause("none", None)
    return cause(causes[0].get("kind"), causes[0].get("service"))


def cause(kind: object, service: object) -> str:
    return "none" if kind in (None, "none") else f"{kind} of {service}"


def twice(entries: Sequence[Stored]) -> Iterator[str]:
    """Results, and mails taken in, that a journal has more than once."""
    seen: Counter[str] = Counter()
    for stored in entries:
        entry, address = _entry(stored), stored.address
        if isinstance(entry, ToolReturned):
            seen[f"{entry.name} ({entry.call_id}) in thread {address.thread}"] += 1
        for mail in getattr(entry, "consumed", ()):
            seen[f"mail {mail} in thread {address.thread} of {address.agent}"] += 1
    return (name for name, count in seen.items() if count > 1)


def _entry(stored: Stored) -> object:
    try:
        return stored.entry
    except ProtocolError:
        return None


def _generate(team: Path, seed: int, folder: Path) -> None:
    """The incident's files, by the team's own generator, which the team itself knows nothing of."""
    script = team / "evals" / "generate.py"
    made = subprocess.run(
        [sys.executable, str(script), "--seed", str(seed), "--out", str(folder)], capture_output=True, text=True
    )
    if made.returncode != 0:
        raise NotRunning(f"{script} failed: {clean(made.stderr)[-2000:].strip()}")


@contextlib.contextmanager
def _workplace(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="shanty-demo-") as folder:
        yield Path(folder)


async def _memo(bus: Bus, run: str) -> str:
    workspace = Workspace(bus.files, run, agent=AGENT, thread="demo", key=f"{run}.demo")
    try:
        return (await workspace.read(MEMO)).decode(errors="replace")
    except WorkspaceError as error:
        return f"there is no memo: {error}"


def _save(place: Path, view: RunView, memo: str) -> None:
    (place / MEMO).write_text(memo, encoding="utf-8")
    (place / "report.json").write_bytes(msgspec.json.format(msgspec.json.encode(report(view))) + b"\n")


def _tell(view: RunView, verdict: Verdict, memo: str, fleet: Fleet, out: Output) -> None:
    kill = verdict.killed
    if out.json:
        out.data(
            {
                **report(view),
                "processes": {each.replica: each.pid for each in fleet.services},
                "killed": None if kill is None else msgspec.to_builtins(kill),
                "taken_over_by": verdict.taken_over_by,
                "entries_after": verdict.entries_after,
                "first_cause": verdict.found,
                "truth": verdict.truth,
                "failures": list(verdict.failures),
            }
        )
    else:
        out.show(Markdown(clean(memo), hyperlinks=False) if out.draws_on(out.stdout) else clean(memo))
    out.say(f"\nThe run is {view.status} after {duration(view.ended_at_ms - view.started_at_ms)}. What happened:")
    out.say(f"  {plural(len(fleet.services), 'service process', 'service processes')} and one nats-server")
    if kill is not None:
        out.say(
            f"  process {kill.pid} ({kill.replica}) was killed after {kill.entries_before} entries of thread "
            f"{kill.thread}; {verdict.taken_over_by or 'nobody'} took it over and wrote {verdict.entries_after} more"
        )
    if verdict.no_chance:
        out.say(f"  {NOBODY_KILLED}, so nothing was taken over")
    if not verdict.twice:
        out.say(f"  {plural(view.entries, 'entry', 'entries')} in all, and no finished step was done twice")
    out.say(f"  first cause: {verdict.found}; made up was: {verdict.truth}")
    for failure in verdict.failures:
        out.say(f"  NOT AS IT SHOULD BE: {failure}")


def _tell_how_to_go_on(view: RunView, place: Path | None, out: Output, *, rehearsed: bool) -> None:
    team = find_team()
    shown = team.relative_to(Path.cwd()) if team.is_relative_to(Path.cwd()) else team
    out.say("\nGo on with:")
    if place is not None:
        out.say(f"  cd {place} && shanty runs journal {view.run}     every step of it")
    else:
        out.say("  shanty demo --seed 8 --keep DIR          another incident, and everything stays in DIR")
    out.say(f"  shanty run {shown} --input DIR    on files of your own: logs/*.log, metrics/*.csv, …")
    out.say(f"  shanty dev {shown}                the team as services that stay up")
    if rehearsed:
        out.say("  make demo MODEL=claude                   the same with Claude, with ANTHROPIC_API_KEY set")
