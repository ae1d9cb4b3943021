"""A team with calls that must not be made twice, and the container that makes them is killed in one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shanty_protocol import EffectEnded, EffectStarted
from shanty_runtime.bus import EmbeddedServer
from shanty_runtime.team import load_team
from shanty_runtime.verify import audit_of_run
from support.containers import RUN_DEADLINE_S, Compose, docker, inspect, until_health
from support.crew import TEAMS, Crew, until

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(600)]

RUN = "0-rung"


@pytest.fixture
def team(images: None) -> Iterator[Compose]:
    compose = Compose("shanty-test-bells", "tests/containers/bells.yml")
    try:
        compose.up("lead", "ringer", "toolgateway", "bell")
        yield compose
    finally:
        compose.down()


async def test_a_tool_gateway_killed_between_an_effect_and_its_entry_is_started_again_and_finds_out(
    team: Compose, tmp_path: Path
) -> None:
    bell, gateway = team.container("bell"), team.container("toolgateway")

    def rings() -> list[str]:
        return docker("logs", bell).splitlines()

    async def rung() -> bool:
        return bool(rings())

    async with team.bus() as bus:
        crew = Crew(load_team(TEAMS / "bells"), EmbeddedServer(), bus, tmp_path, {})  # that server is never started
        await crew.start(RUN)
        await until(rung, RUN_DEADLINE_S, "the bell has rung")
        # Whoever has rung it waits for its answer. `docker kill` would count as a wish of the operator, and nothing
        # would start the container again.
        docker("exec", gateway, "sh", "-c", "kill -9 -1")
        outcome = await crew.reply(RUN, RUN_DEADLINE_S)

        assert (outcome.status, outcome.summary) == ("ok", "rung")
        assert [key.partition(".")[0] for key in rings()] == [RUN]
        assert inspect(gateway)["RestartCount"] == 1
        entries = [stored.entry for stored in await crew.entries(RUN)]
        (started,) = (entry for entry in entries if isinstance(entry, EffectStarted))
        (ended,) = (entry for entry in entries if isinstance(entry, EffectEnded))
        assert (ended.status, ended.content) == ("ok", "rung")
        assert ended.by != started.by
        found = await audit_of_run(bus, RUN)
        assert found.is_sound, found.findings
        await until_health(gateway, "healthy")
