"""The tool gateway of a team: `python -m shanty_toolgateway`, with SHANTY_TEAM and SHANTY_NATS_URL."""

from __future__ import annotations

import sys

from shanty_runtime.service import run_service
from shanty_toolgateway.service import cast

if __name__ == "__main__":
    sys.exit(run_service("toolgateway", cast))
