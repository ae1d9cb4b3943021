"""The chart as Helm renders it: offline, as objects, with the values of a file or of a test."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import helm_python as helm
import msgspec

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "shanty"
VALUE_SETS = tuple(sorted((ROOT / "tests" / "chart" / "values").glob("*.yaml")))
RELEASE = "demo"
NAMESPACE = "team"

Manifest = dict[str, Any]
Values = dict[str, Any]


class Refused(AssertionError):
    """Values the chart does not take. Its words are what a user reads."""


def value_set(name: str) -> Values:
    return yaml((ROOT / "tests" / "chart" / "values" / f"{name}.yaml").read_text())


def yaml(text: str) -> Values:
    """A YAML mapping, as Helm reads it."""
    read: Values = helm.values_from_yaml(text)
    return read


def merged(below: Values, above: Values) -> Values:
    """Values as Helm lays one file over another."""
    both = dict(below)
    for key, value in above.items():
        there = both.get(key)
        both[key] = merged(there, value) if isinstance(there, dict) and isinstance(value, dict) else value
    return both


def files_of(values: Values, release: str = RELEASE, namespace: str = NAMESPACE) -> dict[str, str]:
    """Each template's path and what it renders to. Raises Refused."""
    try:
        with helm.Chart.load(CHART) as chart:
            rendered: dict[str, str] = chart.render(values, name=release, namespace=namespace, is_install=True)
    except (helm.HelmValuesError, helm.HelmRenderError) as error:
        raise Refused(str(error)) from error
    return {path: rendered[path] for path in sorted(rendered)}


def text_of(values: Values, release: str = RELEASE, namespace: str = NAMESPACE) -> str:
    """Everything as one stream of YAML documents."""
    files = files_of(values, release, namespace)
    return "".join(
        f"---\n{text.strip()}\n" for path, text in files.items() if path.endswith(".yaml") and text.strip()
    )


def objects_of(values: Values, release: str = RELEASE, namespace: str = NAMESPACE) -> list[Manifest]:
    """The same values are rendered once, and the caller's copy is its own."""
    encoded = msgspec.json.encode(values, order="sorted")
    objects: list[Manifest] = msgspec.json.decode(_objects(encoded, release, namespace))
    return objects


def only(manifests: list[Manifest], kind: str, name: str = "") -> Manifest:
    """The one object of that kind, and that end of its name."""
    found = [each for each in manifests if each["kind"] == kind and each["metadata"]["name"].endswith(name)]
    assert len(found) == 1, f"{len(found)} of {kind} {name}: {[each['metadata']['name'] for each in found]}"
    return found[0]


def names(manifests: list[Manifest], kind: str) -> list[str]:
    return [each["metadata"]["name"] for each in manifests if each["kind"] == kind]


def pod_specs(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """What runs: the name of each object that has pods, and their specification."""
    for each in manifests:
        name = f"{each['kind']} {each['metadata']['name']}"
        if each["kind"] == "Pod":
            yield name, each["spec"]
        elif "template" in each.get("spec", {}):
            yield name, each["spec"]["template"]["spec"]


def containers(pod: Manifest) -> list[Manifest]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def environment(container: Manifest) -> dict[str, Any]:
    """Variables by name; one that comes from elsewhere as Kubernetes writes it."""
    variables = container.get("env", [])
    assert len({each["name"] for each in variables}) == len(variables), "a variable is set twice"
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in variables}


def lint(values: Values, kube_version: str) -> list[str]:
    """What Helm's strict linter has against the chart."""
    found = helm.lint(CHART, values, strict=True, kube_version=f"v{kube_version}.0")
    warnings = [each["error"] for each in found["messages"] if each["severity"] > 1]
    return [*found["errors"], *warnings]


def against_the_restricted_profile(pod: Manifest) -> list[str]:
    """Each rule of the Pod Security Standards' restricted profile that a pod breaks."""
    allowed_volumes = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim"}
    allowed_volumes |= {"projected", "secret"}
    security = pod.get("securityContext", {})
    broken = [f"{each} is shared with the host" for each in ("hostNetwork", "hostPID", "hostIPC") if pod.get(each)]
    for volume in pod.get("volumes", []):
        broken += [f"volume {kind}" for kind in volume.keys() - {"name"} - allowed_volumes]
    for container in containers(pod):
        own = container.get("securityContext", {})
        name = container["name"]
        if own.get("privileged"):
            broken.append(f"{name} is privileged")
        if own.get("allowPrivilegeEscalation") is not False:
            broken.append(f"{name} may escalate")
        if "ALL" not in own.get("capabilities", {}).get("drop", []):
            broken.append(f"{name} keeps capabilities")
        if set(own.get("capabilities", {}).get("add", [])) - {"NET_BIND_SERVICE"}:
            broken.append(f"{name} adds capabilities")
        if not own.get("runAsNonRoot", security.get("runAsNonRoot")):
            broken.append(f"{name} may be root")
        if own.get("runAsUser", security.get("runAsUser")) == 0:
            broken.append(f"{name} is root")
        profile = own.get("seccompProfile", security.get("seccompProfile", {})).get("type")
        if profile not in ("RuntimeDefault", "Localhost"):
            broken.append(f"{name} has no seccomp profile")
        if any("hostPort" in port for port in container.get("ports", [])):
            broken.append(f"{name} takes a port of the host")
    return broken


@cache
def _objects(values: bytes, release: str, namespace: str) -> bytes:
    text = text_of(msgspec.json.decode(values), release, namespace)
    return msgspec.json.encode(list(_documents(text)))


def _documents(text: str) -> Iterator[Manifest]:
    for document in text.split("\n---\n"):
        if body := yaml(document.removeprefix("---\n")):
            yield body
