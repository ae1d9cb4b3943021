"""Deploys, configuration changes, rollbacks: what a change says, and the file of them all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .notations import clock
from .phrases import THINGS
from .world import World

PEOPLE = "amara ben chloe dmitri elif farid grace hugo ines jonas kemi liu".split()
CHANGE_KEYS = (
    {"at": "time", "service": "service", "sort": "type", "version": "version", "text": "description", "by": "by"},
    {"at": "timestamp", "service": "app", "sort": "kind", "version": "tag", "text": "summary", "by": "author"},
    {
        "at": "deployed_at",
        "service": "component",
        "sort": "action",
        "version": "to_version",
        "text": "notes",
        "by": "user",
    },
)
SORT_WORDS: tuple[dict[str, str], ...] = (
    {"deploy": "deploy", "config": "config", "rollback": "rollback"},
    {"deploy": "release", "config": "config_change", "rollback": "revert"},
    {"deploy": "DEPLOYMENT", "config": "feature_flag", "rollback": "ROLLBACK"},
)


def add_change(world: World, service: str, at_s: float, sort: str, text: str = "") -> None:
    rng = world.rng
    version = f"{rng.randint(1, 9)}.{rng.randint(0, 40)}.{rng.randint(0, 9)}"
    texts = {
        "deploy": (
            f"release {version}",
            f"{rng.choice(THINGS)} rework",
            "dependency upgrades",
            f"new {rng.choice(THINGS)} flow",
            "refactoring, no functional change",
        ),
        "config": (
            f"{rng.choice(THINGS)}.pool.max lowered",
            "timeout tuning",
            f"enable {rng.choice(THINGS)}-v2",
            "rotate credentials",
            "move to new endpoint",
            "cost saving: smaller limits",
        ),
        "rollback": (f"back to {version}", "revert last change"),
    }
    world.changes.append(
        {
            "at": at_s,
            "service": service,
            "sort": sort,
            "version": version if sort != "config" else "",
            "text": text or rng.choice(texts[sort]),
            "by": rng.choice(PEOPLE),
        }
    )


def write_changes(world: World, path: Path) -> None:
    rng = world.rng
    keys, words = rng.choice(CHANGE_KEYS), rng.choice(SORT_WORDS)
    epoch = rng.random() < 0.25
    items = []
    for change in sorted(world.changes, key=lambda each: float(each["at"])):
        moment = world.start + float(change["at"])
        values = {
            **change,
            "at": int(moment) if epoch else clock(moment, "iso")[:19] + "Z",
            "sort": words[change["sort"]],
        }
        items.append({keys[name]: values[name] for name in keys if values[name] != ""})
    whole: Any = {rng.choice(["deploys", "changes"]): items} if rng.random() < 0.3 else items
    path.write_text(json.dumps(whole, indent=rng.choice([None, 2, 2])) + "\n", encoding="utf-8", newline="\n")
