"""Compares a result with the truth of a generated incident.

    python deploy/teams/incident/evals/score.py RESULT.json TRUTH.json

Right means: the first cause has the true kind and service, or there is no cause where nothing happened. Prints one
line and exits 0 if right, 1 if not.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def answer_of(result: dict[str, Any]) -> tuple[str, str | None]:
    causes = result.get("causes") or []
    return (str(causes[0]["kind"]), str(causes[0]["service"])) if causes else ("none", None)


def is_right(result: dict[str, Any], truth: dict[str, Any]) -> bool:
    return answer_of(result) == (truth["kind"], truth["service"])


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare a result with the truth.")
    parser.add_argument("result", type=Path)
    parser.add_argument("truth", type=Path)
    arguments = parser.parse_args()
    result, truth = (json.loads(path.read_text(encoding="utf-8")) for path in (arguments.result, arguments.truth))
    kind, service = answer_of(result)
    right = is_right(result, truth)
    print(f"{'pass' if right else 'fail'}: said {kind} at {service}, true is {truth['kind']} at {truth['service']}")
    raise SystemExit(0 if right else 1)


if __name__ == "__main__":
    main()
