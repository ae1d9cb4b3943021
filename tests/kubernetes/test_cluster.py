"""The chart on a real cluster: installed, tested, scaled by its backlog, upgraded and hurt while runs go on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from shanty_cli.__main__ import main
from shanty_cli.demo import cause, first_cause, twice
from shanty_cli.team_values import values_of
from shanty_protocol import (
    Brief,
    DelegationSent,
    EffectEnded,
    EffectStarted,
    Entry,
    EntryAddress,
    Outcome,
    ThreadReplied,
    ThreadTakenOver,
    ToolReturned,
)
from shanty_protocol.streams import DAY_S
from shanty_runtime.bus import Bus, BusSettings, Stored
from shanty_runtime.bus.jetstream import manage
from shanty_runtime.team import Team, load_team
from shanty_runtime.tools.workspace import one_part
from support.charts import ROOT, Values, against_the_restricted_profile, merged, yaml
from support.cluster import METRIC_LABELS, TAG, Namespace, require_cluster
from support.containers import make_incident, no_gaps
from support.crew import TEAMS, contents, until

pytestmark = [pytest.mark.kubernetes, pytest.mark.slow, pytest.mark.timeout(900)]

NATS = Path(__file__).parent / "nats.yaml"
BELL = Path(__file__).parent / "bell.yaml"
TEAM = load_team(ROOT / "deploy" / "teams" / "incident")
BELLS = load_team(TEAMS / "bells")
RUN_DEADLINE_S = 240
SMALL: Values = {"resources": {"requests": {"cpu": "20m"}}}


def values(**more: Any) -> Values:
    own: Values = {
        "image": {"tag": TAG},
        "model": "rehearsal",
        "initBus": {"keepDays": 30, "maxBytes": "1G"},
        # Long enough a turn that something can be done to whoever takes it.
        "extraEnv": [{"name": "SHANTY_REHEARSAL_PACE_S", "value": "0.5"}],
        "specialistDefaults": {**SMALL, "drainS": 20},
        "specialists": [
            {"name": "deploys"},
            {"name": "logs", "replicas": 2},
            {"name": "metrics"},
            {"name": "tickets"},
        ],
    }
    return merged(merged(values_of(TEAM), own), more)


@pytest.fixture(scope="module")
def crew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    """The incident team, and after it the NATS server it waits for."""
    require_cluster()
    namespace = Namespace(tmp_path_factory.mktemp("cluster"))
    namespace.create()
    try:
        namespace.install(values(), wait=False)
        namespace.kubectl("wait", "pod", "--all", "--for=condition=Initialized", "--timeout=120s")
        start_nats(namespace)
        namespace.wait_rolled_out()
        yield namespace
    finally:
        namespace.delete()


@pytest.fixture
async def bus(crew: Namespace) -> AsyncIterator[Bus]:
    with crew.forwarded("pod/nats-0", 4222) as address:
        async with Bus(BusSettings(url=f"nats://{address}", name="test")) as connected:
            yield connected


@pytest.fixture(scope="module")
def incident(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_incident(tmp_path_factory.mktemp("incident") / "seven", seed=7)


def test_services_that_are_there_before_nats_wait_for_it_and_are_not_restarted(crew: Namespace) -> None:
    restarts = {
        pod["metadata"]["name"]: status["restartCount"]
        for pod in crew.pods()
        for status in pod["status"]["containerStatuses"]
        if pod["metadata"]["labels"]["app.kubernetes.io/component"] != "init-bus"
    }

    assert len(restarts) == 7 and set(restarts.values()) == {0}, restarts


async def test_the_bus_keeps_as_long_and_as_much_as_the_values_say(bus: Bus) -> None:
    lane = (await manage(bus.connection, "STREAM.INFO.SHANTY_0"))["config"]

    assert (lane["max_age"], lane["max_bytes"]) == (30 * DAY_S * 1_000_000_000, 2**30)


def test_helm_test_starts_a_run_and_gets_its_result(crew: Namespace) -> None:
    said = crew.test()

    assert "nobody plays" not in said
    assert "No incident" in said


def test_what_runs_keeps_to_the_restricted_profile(crew: Namespace) -> None:
    pods = crew.pods()

    assert pods
    for pod in pods:
        assert against_the_restricted_profile(pod["spec"]) == [], pod["metadata"]["name"]
    shown = (
        "import os, pathlib; print(os.getuid(), pathlib.Path('/var/run/secrets').exists(), os.access('/', os.W_OK))"
    )
    name = crew.pods("logs")[0]["metadata"]["name"]
    assert crew.kubectl("exec", name, "--", "python", "-c", shown).split() == ["65532", "False", "False"]


async def test_an_incident_is_analysed_right_although_a_pod_is_killed_in_the_middle(
    crew: Namespace, bus: Bus, incident: Path
) -> None:
    for path, content in contents(incident):
        await bus.files.commit(
            "0-killed", path, one_part(content), base_version=0, agent="cli", thread="request-killed", key="input"
        )
    await start(bus, "0-killed", TEAM.goal)
    worker = await first_by(bus, "0-killed", "logs")
    killed = pod_of(crew, "logs", worker)
    crew.kubectl("delete", "pod", killed, "--force", "--grace-period=0", "--wait=false")
    outcome = await reply(bus, "0-killed")
    truth = json.loads(incident.with_suffix(".json").read_text())

    assert outcome.status == "ok"
    assert first_cause(outcome.result) == cause(truth["kind"], truth["service"])
    stored = await audited(bus, "0-killed")
    # The kubelet may give a pod that is deleted by force a moment: its thread is taken over then, or handed on.
    writers = {one.entry.by for one in stored if one.address.agent == "logs"}
    assert worker in writers and len(writers) > 1


async def test_an_upgrade_replaces_every_pod_under_running_threads_and_loses_nothing(
    crew: Namespace, bus: Bus
) -> None:
    before = {pod["metadata"]["name"] for agent in TEAM.agents for pod in crew.pods(agent.name)}
    runs = [f"0-upgraded-{number}" for number in range(4)]
    for run in runs:
        await start(bus, run)
    await first_by(bus, runs[0], "logs")
    upgrading = asyncio.create_task(asyncio.to_thread(crew.upgrade, values(logLevel="debug")))
    while not upgrading.done():
        runs.append(f"0-upgraded-{len(runs)}")
        await start(bus, runs[-1])
        await reply(bus, runs[-1])
    await upgrading
    outcomes = [await reply(bus, run) for run in runs]

    after = {pod["metadata"]["name"] for agent in TEAM.agents for pod in crew.pods(agent.name)}
    assert not before & after and len(after) == len(before)
    assert {(outcome.status, outcome.summary) for outcome in outcomes} == {QUIET}
    stored = [one for run in runs for one in await audited(bus, run)]
    assert taken_over(stored) == []
    assert len({one.entry.by for one in stored if one.address.agent == "logs"}) > 2


async def test_a_backlog_scales_a_specialist_from_one_to_four_and_back_and_nothing_is_lost(
    crew: Namespace, bus: Bus
) -> None:
    require_external_metric(crew)
    autoscaling = {
        "kind": "hpa",
        "minReplicas": 1,
        "maxReplicas": 4,
        "threadsPerReplica": 2,
        "stabilizationS": 15,
        "hpa": {"metricLabels": METRIC_LABELS},
    }
    logs = {
        "name": "logs",
        "autoscaling": autoscaling,
        "concurrency": 1,
        "env": [{"name": "SHANTY_REHEARSAL_PACE_S", "value": "1"}],
    }
    crew.upgrade(values(specialists=[{"name": "deploys"}, logs, {"name": "metrics"}, {"name": "tickets"}]))
    await until_ready(crew, 1)
    runs = [f"0-scaled-{number}" for number in range(40)]
    for run in runs:
        await start(bus, run)
    await until_ready(crew, 4)
    outcomes = [await reply(bus, run) for run in runs]
    await until_ready(crew, 1)

    assert {(outcome.status, outcome.summary) for outcome in outcomes} == {QUIET}
    stored = [one for run in runs for one in await audited(bus, run)]
    assert taken_over(stored) == []
    assert len({one.entry.by for one in stored if one.address.agent == "logs"}) == 4


async def test_each_specialist_in_an_account_of_its_own_is_installed_and_works(tmp_path: Path) -> None:
    async with in_zones(TEAM, tmp_path) as (namespace, keys):
        await asyncio.to_thread(namespace.install, values(nats=zones_of("INCIDENT")), wait=True)

        assert "No incident" in await asyncio.to_thread(namespace.test)
        async with logged_in(namespace, keys / "operators.nk", "operators") as bus:
            await start(bus, "0-zones")
            outcome = await reply(bus, "0-zones")
            assert (outcome.status, outcome.summary) == QUIET
            await audited(bus, "0-zones")


async def test_a_tool_gateway_whose_pod_is_killed_in_a_call_is_followed_by_one_that_does_not_make_it_again(
    tmp_path: Path,
) -> None:
    own: Values = {
        "image": {"tag": TAG},
        "model": "rehearsal",
        "leaseS": 5,
        "nats": zones_of("BELLS"),
        "specialistDefaults": {**SMALL, "drainS": 20},
    }
    bells = merged(merged(values_of(BELLS), yaml(BELL.read_text())), own)
    async with in_zones(BELLS, tmp_path) as (namespace, keys):
        await asyncio.to_thread(namespace.install, bells, wait=True)
        assert gateways(namespace) == [(True, 0)] * 2
        async with logged_in(namespace, keys / "operators.nk", "operators") as bus:
            await start(bus, "0-rung", team=BELLS)
            killed = (await first(bus, "0-rung", EffectStarted)).entry.by
            await until(lambda: has_rung(namespace), RUN_DEADLINE_S, "the bell has rung")
            # Whoever has rung it waits for its answer.
            pod = pod_of(namespace, "toolgateway", killed)
            namespace.kubectl("delete", "pod", pod, "--force", "--grace-period=0", "--wait=false")
            outcome = await reply(bus, "0-rung")
            assert (outcome.status, outcome.summary) == ("ok", "rung")
            assert [key.partition(".")[0] for key in rings(namespace)] == ["0-rung"]
            stored = await audited(bus, "0-rung")
            (ended,) = (one.entry for one in stored if isinstance(one.entry, EffectEnded))
            assert ended.status == "ok" and ended.by != killed
        namespace.wait_rolled_out()
        assert gateways(namespace) == [(True, 0)] * 2


def gateways(namespace: Namespace) -> list[tuple[bool, int]]:
    """Of each replica of the tool gateway, whether it is ready and how often it was restarted."""
    statuses = [status for pod in namespace.pods("toolgateway") for status in pod["status"]["containerStatuses"]]
    return [(status["ready"], status["restartCount"]) for status in statuses]


def rings(namespace: Namespace) -> list[str]:
    return namespace.kubectl("logs", "bell").splitlines()


async def has_rung(namespace: Namespace) -> bool:
    return bool(await asyncio.to_thread(rings, namespace))


def zones_of(account: str) -> Values:
    return {"zones": True, "account": account, "auth": {"kind": "nkey"}}


@contextlib.asynccontextmanager
async def in_zones(team: Team, folder: Path) -> AsyncIterator[tuple[Namespace, Path]]:
    """A namespace with a Secret for each principal and a server that knows them all, and the folder of their keys."""
    require_cluster()
    auth, namespace = folder / "auth", Namespace(folder)
    assert await asyncio.to_thread(main, ["bus-auth", str(team.folder), "--format", "conf", "--out", str(auth)]) == 0
    namespace.create()
    try:
        start_nats(namespace, auth / "accounts.conf")
        for seed in sorted((auth / "keys").glob("*.nk")):
            secret = ("secret", "generic", f"nats-{seed.stem}", f"--from-file=nats.nk={seed}")
            namespace.kubectl("create", *secret)
        yield namespace, auth / "keys"
    finally:
        namespace.delete()


@contextlib.asynccontextmanager
async def logged_in(namespace: Namespace, seed: Path, principal: str) -> AsyncIterator[Bus]:
    with namespace.forwarded("pod/nats-0", 4222) as address:
        settings = BusSettings(
            url=f"nats://{address}", nkey_seed_file=str(seed), inbox_prefix=f"_INBOX_{principal}", name="test"
        )
        async with Bus(settings) as connected:
            yield connected


def start_nats(namespace: Namespace, accounts: Path | None = None) -> None:
    written = "# no accounts\n" if accounts is None else accounts.read_text()
    namespace.kubectl("create", "secret", "generic", "nats-accounts", f"--from-literal=accounts.conf={written}")
    namespace.kubectl("apply", "-f", str(NATS))


QUIET = ("partial", "No incident: nothing in these files got worse in a lasting way.")
"""What the rehearsed team says of a workspace without any file."""


async def start(bus: Bus, run: str, objective: str = "Look.", team: Team = TEAM) -> None:
    address = EntryAddress("lead", run, "request-1", "cli", 0)
    order = DelegationSent(
        at_ms=int(time.time() * 1000), by="test", to_thread="0", brief=Brief(objective=objective), team=team.name
    )
    await bus.journals.append(address, order)


async def reply(bus: Bus, run: str) -> Outcome:
    async with asyncio.timeout(RUN_DEADLINE_S):
        async for stored in bus.feed.follow(run):
            if stored.address.to == "cli" and isinstance(stored.entry, ThreadReplied):
                return stored.entry.outcome
    raise AssertionError("a feed does not end by itself")


async def first_by(bus: Bus, run: str, agent: str) -> str:
    """The replica whose tool was the first of an agent to return, as soon as it has."""
    return (await first(bus, run, ToolReturned, agent)).entry.by


async def first(bus: Bus, run: str, kind: type[Entry], agent: str = "") -> Stored:
    """The first entry of its kind, of one agent or of any, as soon as it is stored."""
    async with asyncio.timeout(RUN_DEADLINE_S):
        async for stored in bus.feed.follow(run):
            if agent in ("", stored.address.agent) and isinstance(stored.entry, kind):
                return stored
    raise AssertionError("a feed does not end by itself")


async def audited(bus: Bus, run: str) -> list[Stored]:
    """Everything stored of a run: nothing done twice, no gap, no dead letter."""
    stored = [one async for one in bus.journals.run_entries(run)]
    assert list(twice(stored)) == [] and no_gaps(stored) == []
    assert [one.entry for one in stored if one.address.to == "dead"] == []
    return stored


def taken_over(stored: list[Stored]) -> list[str]:
    """Threads whose owner was thought dead: who had each, who has it, and how long nothing was heard of it."""
    found, last = [], dict[tuple[str, str, str], Stored]()
    for one in stored:
        journal = (one.address.run, one.address.thread, one.address.agent)
        if isinstance(one.entry, ThreadTakenOver) and (before := last.get(journal)) is not None:
            silent_s = (one.entry.at_ms - before.entry.at_ms) / 1000
            found.append(f"{'/'.join(journal)}: {before.entry.by} to {one.entry.by} after {silent_s:.1f} s")
        last[journal] = one
    return found


def pod_of(crew: Namespace, agent: str, replica: str) -> str:
    """A replica is called after its host, which is its pod, and something made up."""
    host = replica.rpartition("-")[0]
    (found,) = [name for pod in crew.pods(agent) if (name := str(pod["metadata"]["name"])).startswith(host)]
    return found


async def until_ready(crew: Namespace, replicas: int) -> None:
    """As many replicas of `logs` are ready, and there are no others."""

    async def so() -> bool:
        status = (await asyncio.to_thread(crew.get, "deployment", "crew-shanty-logs"))["status"]
        return int(status.get("readyReplicas", 0)) == replicas == int(status.get("replicas", 0))

    await until(so, 180, f"logs has {replicas} replicas")


def require_external_metric(crew: Namespace) -> None:
    with contextlib.suppress(AssertionError):
        crew.kubectl("get", "--raw", "/apis/external.metrics.k8s.io/v1beta1")
        return
    pytest.skip("the cluster has no external metrics; an adapter has to provide nats_consumer_pending")
