"""A team whose agents log in with JWTs, each in a zone of its own, and whose keys are changed while it works."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from shanty_protocol.ids import OPERATORS
from shanty_runtime.bus import Bus, create_layout
from shanty_runtime.team import load_team
from support.crew import TEAMS, Crew
from support.keys import Keyring, guarded_server, reload


@pytest.mark.slow
@pytest.mark.parametrize("form", ["jwt", "conf"])
async def test_a_run_goes_on_while_the_keys_of_everybody_in_it_are_changed(tmp_path: Path, form: str) -> None:
    team = load_team(TEAMS / "hello")
    keyring = Keyring(team, "jwt" if form == "jwt" else "conf", tmp_path / "auth")
    keyring.write()
    setting = "SHANTY_NATS_CREDS" if form == "jwt" else "SHANTY_NATS_NKEY_SEED"
    agents = [agent.name for agent in team.agents]
    mounted = tmp_path / "mounted"
    mounted.mkdir()

    def mount() -> None:
        for agent in agents:
            shutil.copy(keyring.file(agent), mounted / agent)

    mount()
    async with guarded_server(keyring) as server:
        async with Bus(keyring.settings(server, "installer")) as installer:
            await create_layout(installer, agents=agents, ack_wait_s=2.0, max_bytes=2**28)
        async with Bus(keyring.settings(server, OPERATORS)) as bus:
            crew = Crew(team, server, bus, tmp_path, {"SHANTY_REHEARSAL_PACE_S": "0.5"})
            try:
                for agent in agents:
                    zone = "control" if agent == team.lead.name else "agent"
                    crew.add(agent, **{setting: str(mounted / agent), "SHANTY_NATS_ZONE": zone})
                await crew.ready()
                await crew.start("0-keys")
                for change in (("greeter",), ("lead",), ("counter", "greeter")):
                    keyring.write(rotate=change)
                    mount()
                    await reload(server)
                outcome = await crew.reply("0-keys")
            finally:
                for replica in crew.replicas:
                    replica.kill()
    assert outcome.status == "ok", outcome
    for replica in crew.replicas:
        assert "connected to NATS again" in replica.log.read_text(), f"{replica.name} kept its connection"
