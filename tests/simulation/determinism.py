"""What is replaced in a process while a world plays in it: time, chance, and what is told and nobody asks for.

Workers decide by a clock, wait for a while that is left to chance, and give names that nobody may guess. All of that
comes from the world, so that a schedule happens the same way every time. Metrics, spans, what is shown to observers
and the system prompt take time and change nothing that is audited.
"""

from __future__ import annotations

import contextlib
import logging
import random
import secrets
import time
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from types import FunctionType
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import INVALID_SPAN

from shanty_protocol import chain
from shanty_protocol.headers import KIND
from shanty_runtime.agent import context as context_module
from shanty_runtime.bus import pull as pull_module
from shanty_runtime.bus.live import Live
from shanty_runtime.telemetry import metrics, spans
from shanty_runtime.worker import asking, calls
from simulation.server import ACK_WAIT_S

if TYPE_CHECKING:
    from simulation.world import World

EPOCH_S = 1_700_000_000.0
"""When every world begins."""
MEASURED = [name for name, each in vars(metrics).items() if isinstance(each, FunctionType) and name[0] != "_"]
NOT_RECORDED = contextlib.nullcontext(spans.OpenSpan(INVALID_SPAN))


@contextlib.contextmanager
def determinism(world: World) -> Iterator[None]:
    """While a world plays, time and chance are its own, and the server's silence means nothing."""
    chance, loop, real_random = world.chance, world.loop, random.Random
    replaced: list[tuple[Any, str, Any]] = [
        (time, "time", lambda: EPOCH_S + loop.now_s),
        (time, "monotonic", lambda: loop.now_s),
        (random, "uniform", chance.uniform),
        (random, "Random", lambda seed=None: real_random(chance.random() if seed is None else seed)),
        (secrets, "token_hex", lambda size=8: f"{chance.getrandbits(8 * size):x}"),
        *((metrics, name, _untold) for name in MEASURED),
        (spans, "_nothing", True),
        (chain, "digest_of_entry", _short_digest),
        (asking, "model_span", _unrecorded),
        (calls, "tool_span", _unrecorded),
        (Live, "publish", _shown_to_nobody),
        (pull_module.Pull, "_look_up", _knows_its_consumer),
        (context_module, "system_prompt", lambda profile: profile.prompt),
        # The model's server loses no request without a word, so nobody has to listen for its heartbeat.
        (pull_module, "HEARTBEAT_S", 3600.0),
        (pull_module, "SILENCE_S", 1e9),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in replaced]
    logger = logging.getLogger("shanty")
    complaints, level, propagate = _Complaints(world), logger.level, logger.propagate
    logger.addHandler(complaints)
    if level != logging.ERROR:  # which has every logger forget what it knows
        logger.setLevel(logging.ERROR)
    logger.propagate = False
    try:
        for owner, name, value in replaced:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)
        logger.removeHandler(complaints)
        if level != logging.ERROR:
            logger.setLevel(level)
        logger.propagate = propagate


def _short_digest(before: str, subject: str, headers: Mapping[str, str], body: bytes) -> str:
    """Of the same things as the real one, by what is quick: nobody here tries to make two entries look alike."""
    return blake2b(f"{before}\n{subject}\n{headers[KIND]}\n".encode() + body, digest_size=16).hexdigest()


def _untold(*args: object, **kwargs: object) -> None:
    return


def _unrecorded(*args: object, **kwargs: object) -> contextlib.AbstractContextManager[spans.OpenSpan]:
    return NOT_RECORDED


async def _knows_its_consumer(pull: pull_module.Pull) -> float:
    return ACK_WAIT_S


async def _shown_to_nobody(live: Live, address: object, event: object) -> None:
    return


class _Complaints(logging.Handler):
    """The engine logs an error where something went wrong by itself."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.ERROR)
        self.world = world

    def emit(self, record: logging.LogRecord) -> None:
        if self.world.loop.closing:
            return
        said = record.getMessage()
        if record.exc_info:
            said += f": {record.exc_info[1]!r}"
        self.world.tell(f"   ERROR {said}")
        self.world.ledgers.complaints.append(said)
