"""Settings of a service: one frozen Struct, read from the environment once, with every problem named at once."""

from __future__ import annotations

import os
import re
import secrets
import socket
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from shanty_runtime.errors import ConfigError

PREFIX = "SHANTY_"
LISTS = ("lanes", "egress_private")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Each field is set by `SHANTY_` and its name in capitals: `nats_url` by SHANTY_NATS_URL."""

    nats_url: str = "nats://127.0.0.1:4222"
    nats_user: str = ""
    nats_password: str = ""
    nats_token: str = ""
    nats_token_file: str = ""
    """Path of a file with a token, read anew at every connect: a projected token of Kubernetes is renewed there."""
    nats_creds: str = ""
    """Path of a credentials file, read anew at every connect."""
    nats_nkey_seed: str = ""
    """Path of a file with an nkey seed, read anew at every connect."""
    nats_tls_ca: str = ""
    """Path of the certificates the server's is signed by; with it, or with a tls:// address, a server without TLS is
    refused."""
    nats_tls_cert: str = ""
    """Path of our own certificate, for a server that asks for one."""
    nats_tls_key: str = ""
    """Path of that certificate's private key."""
    nats_tls_first: bool = False
    """For a server that has `handshake_first` in its configuration."""
    nats_inbox_prefix: str = ""
    """Where answers arrive; `_INBOX_` and the agent's name where it is not set."""
    nats_zone: Literal["control", "agent"] = "control"
    """`agent`: this service logs into an account of its own, where only what belongs to its agent can be reached."""
    nats_monitor_url: str = ""
    """The server's monitoring address: lets a service verify that an ack means the disk."""
    durability: Literal["required", "relaxed"] = "relaxed"
    """`required` refuses to start where acks are not known to be durable."""

    team: str = ""
    """Path of the team's folder."""
    agent: str = ""
    """Which specialist of the team this process is."""
    model: str = ""
    """Overrides the team's model: `rehearsal` plays the team by its rehearsal.py, `replay:FILE` by a recording or
    by an archive of a run."""
    record: str = ""
    """Path of a file to which every reply of a model is appended, in the clear."""
    prices: str = ""
    """Path of a price list that goes before the one that comes with Shanty."""
    rehearsal_pace_s: float = 0.0
    """How long a rehearsed model takes for a turn."""

    tool_gateway: Literal["on", "off"] = "on"
    """`off`: agents make the calls of fenced tools themselves. One that was frozen meanwhile may then act late."""

    egress_private: tuple[str, ...] = ()
    """Comma-separated `host:port` that agents may fetch from although they are in a private network."""

    triggers: Literal["on", "off"] = "on"
    """`off`: this replica of a lead starts no runs by itself, whatever its team.yaml says."""
    lanes: tuple[str, ...] = ("0",)
    """Comma-separated."""
    lease_s: int = 15
    """How long a thread stays with a worker that has gone silent."""
    concurrency: int = 32
    """Threads worked on at once by this process."""
    start_wait_s: float = 0.0
    """How long a service that starts waits for a bus that is not there, or not set up, yet."""
    drain_s: float = 25.0
    """How long a step may go on after SIGTERM."""

    replica: str = ""
    """Name of this process among its like; made up from the host's name where it is not set."""
    http_host: str = "127.0.0.1"
    http_port: int = 8080
    """For /healthz/live, /healthz/ready and /metrics; 0 takes a free port."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "text"] = "json"
    capture_content: Literal["off", "spans"] = "off"
    """`spans` puts what models and tools are told and say into their spans, without secrets and cut to a size."""


def read_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from the environment. Raises ConfigError with everything that is wrong in it."""
    environment = os.environ if environment is None else environment
    known = {PREFIX + field.encode_name.upper(): field for field in msgspec.structs.fields(Settings)}
    given: dict[str, Any] = {}
    problems = []
    for variable, text in sorted(environment.items()):
        if (field := known.get(variable)) is None:
            continue
        raw: Any = text.split(",") if field.encode_name in LISTS else text
        try:
            given[field.encode_name] = msgspec.convert(raw, field.type, strict=False)
        except msgspec.ValidationError as error:
            problems.append(f"{variable} is {text!r}: {str(error).partition(' - at ')[0]}")
    problems += [problem for name, value in given.items() if (problem := _out_of_range(name, value))]
    if problems:
        raise ConfigError("; ".join(problems))
    return Settings(**{"replica": made_up_replica(), **given})


def _out_of_range(name: str, value: Any) -> str:
    variable = PREFIX + name.upper()
    if name in ("lease_s", "concurrency") and value < 1:
        return f"{variable} is {value}, and must be 1 or more"
    if name in ("start_wait_s", "drain_s", "rehearsal_pace_s", "http_port") and value < 0:
        return f"{variable} is {value}, and must not be negative"
    if name == "egress_private" and not all(
        re.fullmatch(r"[^\s:/]+:[0-9]{1,5}|\[[0-9a-fA-F:.]+\]:[0-9]{1,5}", each) for each in value if each
    ):
        return f"{variable} is {','.join(value)!r}, and must be host:port, separated by commas"
    if name == "lanes" and not all(re.fullmatch(r"0|[1-9][0-9]*", lane) for lane in value):
        return f"{variable} is {','.join(value)!r}, and must be numbers separated by commas"
    return ""


def made_up_replica() -> str:
    """A name for this process: the host's, and something that no other process on it has."""
    host = re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().lower()).strip("-")[:40]
    return f"{host or 'host'}-{secrets.token_hex(3)}"
