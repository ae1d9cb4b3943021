"""What happened outside the engine, as those it happened to have noted it: the other side of its journals."""

from __future__ import annotations

from typing import Any

import msgspec


class Begun(msgspec.Struct, frozen=True, kw_only=True):
    """A worker, or the tool gateway, called a tool."""

    key: str
    tool: str
    by: str
    at_s: float
    leased: bool
    """Whether it had the lease of the thread, or the tool gateway that of the call, by the server's book."""


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """Something changed outside, for good."""

    key: str
    agent: str
    """Whose call it was."""
    tool: str
    arguments: dict[str, Any]
    by: str
    """The process that did it."""
    at_s: float


class ModelCall(msgspec.Struct, kw_only=True):
    """A model was asked, and was paid whatever became of its reply."""

    thread: str
    agent: str
    turn: int
    by: str
    at_s: float
    leased: bool
    """As of a tool that was begun."""


class Disturbance(msgspec.Struct, frozen=True):
    """A worker was killed, or could not go on for a while."""

    kind: str
    by: str
    at_s: float
    until_s: float


class Ledgers(msgspec.Struct):
    begun: list[Begun] = []
    effects: list[Effect] = []
    model_calls: list[ModelCall] = []
    disturbances: list[Disturbance] = []
    complaints: list[str] = []
    """What the engine itself logged as an error."""
    granted_calls: int = 0
    """Model calls that people have added to the run's budget."""

    def effect_of(self, key: str) -> Effect | None:
        return next((effect for effect in self.effects if effect.key == key), None)
