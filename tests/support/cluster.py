"""A Kubernetes cluster as it is used: kubectl, and the chart by Helm's own code.

SHANTY_TEST_KUBECONFIG       how to reach it; without it these tests are skipped
SHANTY_TEST_IMAGE_TAG        which shanty/lead, …/specialist, …/toolgateway and …/cli the nodes have: dev
SHANTY_TEST_MANIFEST_FILTER  a command that rewrites manifests from stdin to stdout, for a cluster that is too old
                             for what the chart renders
SHANTY_TEST_METRIC_LABELS    labels the cluster's external metric `nats_consumer_pending` wants besides `stream` and
                             `consumer`: name=value, separated by commas
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python as helm
import pytest

from support.charts import CHART, Manifest, Values, text_of

KUBECONFIG = os.environ.get("SHANTY_TEST_KUBECONFIG", "")
TAG = os.environ.get("SHANTY_TEST_IMAGE_TAG", "dev")
FILTER = shlex.split(os.environ.get("SHANTY_TEST_MANIFEST_FILTER", ""))
METRIC_LABELS = dict(
    each.split("=", 1) for each in os.environ.get("SHANTY_TEST_METRIC_LABELS", "").split(",") if "=" in each
)
RELEASE = "crew"
COMMAND_DEADLINE_S = 300
READY_DEADLINE_S = 240


def require_cluster() -> None:
    """Skip the test, saying why, where there is no cluster to use."""
    if not KUBECONFIG:
        pytest.skip("SHANTY_TEST_KUBECONFIG is not set; these tests need a Kubernetes cluster of yours")
    if shutil.which("kubectl") is None:
        pytest.skip("there is no kubectl here")


class Namespace:
    """A namespace of its own, and one release in it."""

    def __init__(self, folder: Path) -> None:
        self.name = f"shanty-{secrets.token_hex(3)}"
        self.folder = folder

    def create(self) -> None:
        self.kubectl("create", "namespace", self.name)
        self.kubectl("label", "namespace", self.name, "pod-security.kubernetes.io/enforce=restricted")

    def delete(self) -> None:
        self.kubectl("delete", "namespace", self.name, "--wait=false")

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        done = subprocess.run(
            self.command(*arguments), input=stdin, capture_output=True, text=True, timeout=COMMAND_DEADLINE_S
        )
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def command(self, *arguments: str) -> list[str]:
        cache = str(self.folder / "kubectl")
        return ["kubectl", "--kubeconfig", KUBECONFIG, "--cache-dir", cache, "--namespace", self.name, *arguments]

    def get(self, *arguments: str) -> Manifest:
        found: Manifest = json.loads(self.kubectl("get", *arguments, "-o", "json"))
        return found

    def pods(self, agent: str = "") -> list[Manifest]:
        """Pods of the release that are not on their way out."""
        selector = f"app.kubernetes.io/instance={RELEASE}" + (f",shanty/agent={agent}" if agent else "")
        pods = self.get("pods", "-l", selector)["items"]
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def wait_rolled_out(self) -> None:
        """Every deployment of the release has the replicas it should have, of its newest version."""
        for each in self.get("deployments", "-l", f"app.kubernetes.io/instance={RELEASE}")["items"]:
            name = f"deployment/{each['metadata']['name']}"
            self.kubectl("rollout", "status", name, f"--timeout={READY_DEADLINE_S}s")

    def install(self, values: Values, *, wait: bool) -> None:
        with self._helm() as connection, self._chart(values) as chart:
            connection.install(
                str(chart),
                RELEASE,
                {} if FILTER else values,
                namespace=self.name,
                wait="watcher" if wait else None,
                timeout=READY_DEADLINE_S,
            )

    def upgrade(self, values: Values) -> None:
        with self._helm() as connection, self._chart(values) as chart:
            connection.upgrade(
                str(chart),
                RELEASE,
                {} if FILTER else values,
                namespace=self.name,
                wait="watcher",
                timeout=READY_DEADLINE_S,
            )
        self.wait_rolled_out()

    def test(self) -> str:
        """What `helm test` says. Raises where the test fails."""
        with self._helm() as connection:
            return json.dumps(connection.test(RELEASE, timeout=READY_DEADLINE_S, logs=True))

    @contextlib.contextmanager
    def forwarded(self, target: str, port: int) -> Iterator[str]:
        """host:port here that leads to a port there, until the end of the block."""
        command = self.command("port-forward", target, f":{port}")
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            try:
                assert process.stdout is not None
                said = process.stdout.readline()
                assert said.startswith("Forwarding from "), f"kubectl port-forward {target} said {said!r}"
                yield said.split()[2]
            finally:
                process.terminate()

    def _helm(self) -> Any:
        return helm.Config(namespace=self.name, kubeconfig_path=KUBECONFIG)

    @contextlib.contextmanager
    def _chart(self, values: Values) -> Iterator[Path]:
        """The chart; where there is a filter, one that has the filtered manifests in place of templates."""
        if not FILTER:
            yield CHART
            return
        chart = self.folder / secrets.token_hex(4)
        (chart / "templates").mkdir(parents=True)
        (chart / "Chart.yaml").write_text("apiVersion: v2\nname: shanty\nversion: 0.0.0\n")
        (chart / "templates" / "all.yaml").write_text('{{ .Files.Get "all.yaml" }}\n')
        rendered = text_of(values, RELEASE, self.name)
        filtered = subprocess.run(FILTER, input=rendered, capture_output=True, text=True, check=True).stdout
        (chart / "all.yaml").write_text(filtered)
        yield chart
