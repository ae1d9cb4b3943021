"""The bell. POST /KEY rings it, and it says so on stdout; GET /KEY answers `rung` if KEY has rung it.

The first to ring gets no answer: so it can be killed when its effect has happened, and before it knows.
"""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event

PORT = 8000
rings: list[str] = []


class Bell(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        key = self.path.removeprefix("/")
        rings.append(key)
        print(key, flush=True)
        if len(rings) == 1:
            Event().wait()
        self._answer("rung")

    def do_GET(self) -> None:
        self._answer("rung" if self.path.removeprefix("/") in rings else "")

    def _answer(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Rings alone are said."""


if __name__ == "__main__":
    ThreadingHTTPServer(("", PORT), Bell).serve_forever()
