"""Questions and answers that no stream keeps: what is asked of the tool gateway, and what it says."""

from __future__ import annotations

import random
from collections.abc import Mapping

from shanty_runtime.bus.wire import Incoming
from shanty_runtime.errors import BusUnavailable
from simulation.connection import Answered, Answering, SimulatedConnection
from simulation.loop import SimulatedLoop
from simulation.server import Server

QUESTION = "shanty.tool."
INBOX = "_INBOX."


class Questions:
    """A question goes to one of those who answer; what that one says, to whoever asked."""

    def __init__(self, loop: SimulatedLoop, server: Server, chance: random.Random) -> None:
        self.answering: list[Answering] = []
        self._loop, self._server, self._chance = loop, server, chance
        self._asked: dict[str, tuple[SimulatedConnection, Answered]] = {}
        """Who waits for what is sent to a subject."""

    def pass_on(
        self,
        connection: SimulatedConnection,
        subject: str,
        data: bytes,
        headers: Mapping[str, str],
        answered: Answered | None,
    ) -> None:
        at_s = self._loop.now_s + self._server.latency_s()
        if subject.startswith(INBOX):
            asker, waiting = self._asked.pop(subject)
            if not asker.cut:
                told = [Incoming(subject, "", data, dict(headers))]
                self._loop.call_for(asker.process, at_s, resolve, waiting, told)
            return
        there = [each for each in self.answering if not (each.connection.process.dead or each.connection.cut)]
        if not there:
            if answered is not None:
                self._loop.call_for(connection.process, at_s, fail, answered, "nobody answers")
            return
        chosen = self._chance.choice(there)
        reply = ""
        if answered is not None:
            reply = connection.new_inbox()
            self._asked[reply] = (connection, answered)
        question = Incoming(subject, reply, data, dict(headers))
        self._loop.call_for(chosen.connection.process, at_s, chosen.heard, question, context=chosen.context)


def fail(answered: Answered, why: str = "no answer in time") -> None:
    if not answered.done():
        answered.set_exception(BusUnavailable(why))


def resolve(answered: Answered, answers: list[Incoming]) -> None:
    if not answered.done():
        answered.set_result(answers)
