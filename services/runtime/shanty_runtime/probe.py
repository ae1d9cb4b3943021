"""Asks the service beside it how it is, for a container's health check: exit code 0 where the answer is yes.

    shanty-probe          does it take work?
    shanty-probe live     does it answer at all?

It runs every few seconds in every container, so it imports little, and the image has it as a file of its own: run as
a module it would load its package first, which takes ten times as long as the question.
"""

from __future__ import annotations

import os
import socket
import sys

TIMEOUT_S = 5.0
ANYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
"""Where to ask a service that listens on every address."""


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["ready"], ["live"]):
        print("usage: shanty-probe [ready|live]", file=sys.stderr)
        return 2
    host = os.environ.get("SHANTY_HTTP_HOST", "127.0.0.1")
    port = os.environ.get("SHANTY_HTTP_PORT", "8080")
    try:
        answer = ask(ANYWHERE.get(host, host), int(port), f"/healthz/{arguments[0] if arguments else 'ready'}")
    except (OSError, ValueError) as error:
        print(f"{host}:{port} does not answer: {error}")
        return 1
    status, _, _ = answer.partition("\r\n")
    _, _, body = answer.partition("\r\n\r\n")
    print(f"{status} {body}")  # Docker keeps this: `docker inspect` shows what was missing
    return 0 if status.split()[1:2] == ["200"] else 1


def ask(host: str, port: int, path: str) -> str:
    with socket.create_connection((host, port), TIMEOUT_S) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
        parts = []
        while part := connection.recv(4096):
            parts.append(part)
    return b"".join(parts).decode(errors="replace")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
