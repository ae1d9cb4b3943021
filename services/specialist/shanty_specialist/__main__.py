"""One specialist of a team: `python -m shanty_specialist`, with SHANTY_TEAM, SHANTY_AGENT and SHANTY_NATS_URL."""

from __future__ import annotations

import sys

from shanty_runtime.service import run_service

if __name__ == "__main__":
    sys.exit(run_service("specialist"))
