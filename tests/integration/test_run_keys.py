"""A run that is started with a key: once, and for one team."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from shanty_cli.exits import UsageError
from shanty_cli.start import ids_from, start, started_before
from shanty_runtime.bus import Bus
from shanty_runtime.team import load_team

HELLO = load_team(Path(__file__).parent.parent / "teams" / "hello")
KEY = ids_from("nightly")


async def test_a_key_that_is_new_has_started_nothing_and_one_that_was_used_says_what(bus: Bus) -> None:
    assert await started_before(bus, KEY, HELLO) is None
    assert (await start(bus, KEY, HELLO, "greet", ())).ours
    assert not (await start(bus, KEY, HELLO, "greet once more", ())).ours
    before = await started_before(bus, KEY, HELLO)
    assert before is not None and before.brief.objective == "greet"


async def test_a_key_of_another_team_is_refused_with_its_name(bus: Bus) -> None:
    await start(bus, KEY, HELLO, "greet", ())
    other = msgspec.structs.replace(HELLO, name="other")
    with pytest.raises(UsageError, match=rf"run {KEY.run} of team hello: take another one for team other"):
        await started_before(bus, KEY, other)
