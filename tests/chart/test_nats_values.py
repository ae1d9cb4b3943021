"""The values for NATS' own chart, which is not here: what durability hangs on is tried on a real server."""

from __future__ import annotations

import json
from pathlib import Path

from shanty_runtime.bus import Bus, BusSettings, EmbeddedServer, durability
from shanty_runtime.bus.durability import OLDEST_SERVER
from support.charts import ROOT, Values, merged, yaml

NATS = ROOT / "deploy" / "nats"


def test_a_server_with_these_settings_flushes_before_it_acks() -> None:
    jetstream = values()["config"]["jetstream"]

    assert jetstream["enabled"] and jetstream["fileStore"]["pvc"]["enabled"]
    assert jetstream["merge"] == {"sync_interval": "always"}


async def test_what_the_chart_writes_as_json_is_understood_as_always(tmp_path: Path) -> None:
    setting = values()["config"]["jetstream"]["merge"]["sync_interval"]
    async with EmbeddedServer(store_dir=tmp_path / "nats", sync_interval=json.dumps(setting)) as server:
        async with Bus(BusSettings(url=server.url, name="test")) as bus:
            assert (await durability(bus, server.monitor_url)).verified is True


def test_the_image_is_of_a_server_without_the_faults_of_older_ones() -> None:
    tag = values()["container"]["image"]["tag"]

    assert tuple(int(part) for part in tag.partition("-")[0].split(".")) >= OLDEST_SERVER


def test_there_is_a_majority_without_any_one_server_and_any_one_node() -> None:
    spread = values()["podTemplate"]["topologySpreadConstraints"]["kubernetes.io/hostname"]

    assert values()["config"]["cluster"] == {"enabled": True, "replicas": 3}
    assert spread == {"maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}


def test_in_zones_the_accounts_are_where_they_are_included_from() -> None:
    zones = merged(values(), yaml((NATS / "values-zones.yaml").read_text()))
    (mount,), (volume,) = zones["container"]["patch"], zones["podTemplate"]["patch"]
    included = Path("/etc/nats-config") / zones["config"]["merge"]["$include"]

    assert str(included.parent) == f"/etc/nats-config/../{Path(mount['value']['mountPath']).name}"
    assert mount["value"]["name"] == volume["value"]["name"]
    assert zones["config"]["jetstream"]["merge"] == {"sync_interval": "always"}


def values() -> Values:
    return yaml((NATS / "values.yaml").read_text())
