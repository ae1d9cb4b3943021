"""What a service says of itself, over HTTP and as a NATS service."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

from shanty_runtime.bus import Bus
from shanty_runtime.bus.wire import Incoming
from support.crew import Replica, until


async def http_port(replica: Replica) -> int:
    """The port a replica took. It says so just after its card is on the roster."""
    ports: list[int] = []

    async def said() -> bool:
        lines = replica.log.read_text().splitlines(keepends=True)
        whole = [json.loads(line) for line in lines if line.endswith("\n")]
        ports.extend(line["http_port"] for line in whole if "http_port" in line)
        return bool(ports)

    await until(said, 30, f"{replica.name} says its port")
    return ports[-1]


def get(port: int, path: str) -> tuple[int, dict[str, bool]]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


async def ping(bus: Bus, agent: str, replicas: int) -> dict[str, str]:
    """The replicas of an agent that answer as a NATS service, with their ids. Waits until there are so many."""
    answered: dict[str, str] = {}

    def hear(answer: Incoming) -> bool:
        said = json.loads(answer.data)
        answered[said["metadata"]["replica"]] = said["id"]
        return len(answered) == replicas

    await bus.connection.converse(f"$SRV.PING.{agent}", b"", hear)
    return answered
