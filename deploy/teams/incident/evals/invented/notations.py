"""How a log writes a line: each service has a notation of its own."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from typing import Any, TextIO

from .phrases import THINGS, fill
from .world import Service, Stream, World

JSON_KEYS = (
    ("ts", "level", "msg", "service"),
    ("timestamp", "severity", "message", "app"),
    ("@timestamp", "level", "message", "service"),
    ("time", "lvl", "event", ""),
)


def clock(moment: float, style: str) -> str:
    at = datetime.fromtimestamp(moment, UTC)
    millis = int(moment * 1000) % 1000
    if style == "iso":
        return f"{at:%Y-%m-%dT%H:%M:%S}.{millis:03d}Z"
    if style == "comma":
        return f"{at:%Y-%m-%d %H:%M:%S},{millis:03d}"
    if style == "space":
        return f"{at:%Y-%m-%d %H:%M:%S}.{millis:03d} UTC"
    if style == "slash":
        return f"{at:%Y/%m/%d %H:%M:%S}"
    if style == "clf":
        return f"{at:%d/%b/%Y:%H:%M:%S} +0000"
    if style == "syslog":
        return f"{at:%b %d %H:%M:%S}"
    if style == "glog":
        return f"{at:%m%d %H:%M:%S}.{millis:03d}000"
    return f"{moment:.3f}"


class Writer:
    """One log: its notation is fixed by the service."""

    def __init__(self, world: World, service: Service, out: TextIO) -> None:
        self.world, self.service, self.out = world, service, out
        rng = random.Random(f"{service.name}{world.start}")
        self.rng = rng
        self.keys = rng.choice(JSON_KEYS)
        self.epoch = rng.random() < 0.3
        self.pid = rng.randint(100, 9000)

    def write(self, at: float, stream: Stream) -> None:
        moment = self.world.start + at
        message = fill(self.world, self.world.rng.choice(stream.phrases), stream.peer)
        line = getattr(self, f"_{self.service.notation}")(moment, stream.level, message, stream)
        self.out.write(line + "\n")
        if self.service.notation not in ("json", "logfmt", "access"):
            for each in stream.trace:
                self.out.write(fill(self.world, each, stream.peer) + "\n")

    def _plain(self, moment: float, level: str, message: str, stream: Stream) -> str:
        return f"{clock(moment, 'iso')} {level.upper():5} {message}"

    def _bracket(self, moment: float, level: str, message: str, stream: Stream) -> str:
        return f"[{clock(moment, 'slash')}] [{level}] [{self.pid}] {message}"

    def _log4j(self, moment: float, level: str, message: str, stream: Stream) -> str:
        return (
            f"{clock(moment, 'comma')} "
            f"[pool-{self.rng.randint(1, 4)}-thread-{self.rng.randint(1, 32)}] {level.upper()} "
            f"c.a.Handler - {message}"
        )

    def _python(self, moment: float, level: str, message: str, stream: Stream) -> str:
        word = "WARNING" if level == "warn" else level.upper()
        return f"{clock(moment, 'comma')} - app.main - {word} - {message}"

    def _syslog(self, moment: float, level: str, message: str, stream: Stream) -> str:
        return (
            f"{clock(moment, 'syslog')} node-{self.pid % 7} {self.service.name}[{self.pid}]: "
            f"{level.upper()}: {message}"
        )

    def _glog(self, moment: float, level: str, message: str, stream: Stream) -> str:
        return (
            f"{level[0].upper()}{clock(moment, 'glog')} {self.pid} handler.go:{self.rng.randint(20, 300)}] {message}"
        )

    def _postgres(self, moment: float, level: str, message: str, stream: Stream) -> str:
        word = {"info": "LOG", "warn": "WARNING", "error": "FATAL"}[level]
        return f"{clock(moment, 'space')} [{self.pid}] app@main {word}:  {message}"

    def _mysql(self, moment: float, level: str, message: str, stream: Stream) -> str:
        word = {"info": "Note", "warn": "Warning", "error": "ERROR"}[level]
        return (
            f"{clock(moment, 'iso')} {self.rng.randint(1, 99)} [{word}] "
            f"[MY-0{self.rng.randint(10000, 13999)}] [Server] {message}"
        )

    def _logfmt(self, moment: float, level: str, message: str, stream: Stream) -> str:
        quoted = message.replace('"', '\\"')
        return (
            f'ts={clock(moment, "iso")} level={level} svc={self.service.name} msg="{quoted}" '
            f"req={self.rng.getrandbits(32):08x}"
        )

    def _json(self, moment: float, level: str, message: str, stream: Stream) -> str:
        time_key, level_key, text_key, service_key = self.keys
        fields: dict[str, Any] = {
            time_key: round(moment, 3) if self.epoch else clock(moment, "iso"),
            level_key: level,
            text_key: message,
        }
        if service_key:
            fields[service_key] = self.service.name
        if stream.trace:
            fields["stack"] = "\n".join(fill(self.world, each, stream.peer) for each in stream.trace)
        if self.rng.random() < 0.3:
            fields["trace_id"] = f"{self.rng.getrandbits(64):016x}"
        return json.dumps(fields)

    def _access(self, moment: float, level: str, message: str, stream: Stream) -> str:
        rng = self.rng
        status = stream.status if level != "info" else 200
        method = rng.choice(["GET", "GET", "GET", "POST"])
        slow = rng.uniform(0.5, 5) if status >= 500 else rng.uniform(0.005, 0.2)
        return (
            f"10.1.{rng.randint(0, 255)}.{rng.randint(1, 254)} - - [{clock(moment, 'clf')}] "
            f'"{method} /{rng.choice(THINGS)}/{rng.randint(1, 9999)} HTTP/1.1" '
            f'{status} {rng.randint(100, 9000)} "-" "client/1.{rng.randint(0, 9)}" {slow:.3f}'
        )
