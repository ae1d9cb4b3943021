from __future__ import annotations

from typing import Any

import pytest

from support.player import LEAD, SPECIALIST, Player, Use


@pytest.fixture
def lead() -> Player:
    """The lead's thread, opened by a person."""
    player = Player(LEAD, "0")
    player.opened_by("cli", "request-1")
    player.go_on()
    return player


@pytest.fixture
def specialist() -> Player:
    """A specialist's thread, opened by the lead."""
    player = Player(SPECIALIST, "0-1")
    player.opened_by("lead", "0")
    player.go_on()
    return player


@pytest.fixture
def use() -> Use:
    """A tool_use block."""

    def block(identity: str, name: str, /, **arguments: Any) -> dict[str, Any]:
        return {"type": "tool_use", "id": identity, "name": name, "input": arguments}

    return block
