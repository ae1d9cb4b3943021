from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shanty_protocol.streams import agent_consumers
from shanty_runtime.config import Settings
from support.charts import (
    CHART,
    ROOT,
    VALUE_SETS,
    Manifest,
    Values,
    against_the_restricted_profile,
    containers,
    environment,
    merged,
    names,
    objects_of,
    only,
    pod_specs,
    text_of,
    value_set,
    yaml,
)

SETTINGS = {"SHANTY_" + field.encode_name.upper() for field in msgspec.structs.fields(Settings)}
every_value_set = pytest.mark.parametrize("path", VALUE_SETS, ids=lambda path: path.stem)


@every_value_set
def test_two_renderings_are_the_same_bytes(path: Path) -> None:
    values = yaml(path.read_text())

    assert text_of(values) == text_of(values)


@every_value_set
def test_every_object_has_a_name_of_its_own_and_the_labels_of_its_release(path: Path) -> None:
    objects = objects_of(yaml(path.read_text()))
    known = [(each["kind"], each["metadata"]["name"]) for each in objects]

    assert len(set(known)) == len(known)
    for each in objects:
        if each["metadata"]["name"] == "demo-extra":
            continue
        labels = each["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == "demo" and "app.kubernetes.io/version" in labels
        assert all(len(value) <= 63 for value in labels.values())


@every_value_set
def test_every_pod_keeps_to_the_restricted_profile_and_has_no_token_of_the_api(path: Path) -> None:
    pods = list(pod_specs(objects_of(yaml(path.read_text()))))

    assert pods
    for name, pod in pods:
        assert against_the_restricted_profile(pod) == [], name
        assert pod["automountServiceAccountToken"] is False, name
        for container in containers(pod):
            if container["name"] != "mcp":  # one of the user's
                assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
                assert "memory" in container["resources"]["limits"], name
                assert "cpu" not in container["resources"]["limits"], name


@every_value_set
def test_every_variable_of_ours_is_a_setting_of_ours(path: Path) -> None:
    for name, pod in pod_specs(objects_of(yaml(path.read_text()))):
        for container in containers(pod):
            given = {each for each in environment(container) if each.startswith("SHANTY_")}
            assert given <= SETTINGS, f"{name} {container['name']}: {given - SETTINGS}"


@every_value_set
def test_every_mount_has_its_volume(path: Path) -> None:
    for name, pod in pod_specs(objects_of(yaml(path.read_text()))):
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in containers(pod):
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes, name


def test_each_specialist_of_the_values_is_a_service_of_its_own() -> None:
    objects = objects_of(value_set("team"))

    assert names(objects, "Deployment") == ["demo-shanty-lead", "demo-shanty-greeter", "demo-shanty-counter"]
    assert names(objects, "Service") == names(objects, "Deployment")
    played = [
        (containers(pod)[0]["image"].rpartition(":")[0], environment(containers(pod)[0]).get("SHANTY_AGENT"))
        for name, pod in pod_specs(objects)
        if name.startswith("Deployment")
    ]
    assert played == [("shanty/lead", None), ("shanty/specialist", "greeter"), ("shanty/specialist", "counter")]


def test_a_tool_gateway_is_there_where_it_is_asked_for_and_alone_has_what_is_given_to_it() -> None:
    team = value_set("team")
    objects = objects_of(merged(team, {"toolgateway": {"enabled": True, "env": [{"name": "KEY", "value": "k"}]}}))
    pods = {name: containers(pod)[0] for name, pod in pod_specs(objects) if name.startswith("Deployment")}
    (gateway,) = [name for name in pods if name.endswith("toolgateway")]

    assert pods[gateway]["image"].rpartition(":")[0] == "shanty/toolgateway"
    assert [name for name, container in pods.items() if "KEY" in environment(container)] == [gateway]
    assert not {"SHANTY_AGENT", "SHANTY_MODEL", "ANTHROPIC_API_KEY"} & set(environment(pods[gateway]))
    assert not [name for name in names(objects_of(team), "Deployment") if "toolgateway" in name]


def test_what_is_deployed_has_the_name_of_its_folder() -> None:
    services = {path.parent.name for path in ROOT.glob("services/*/pyproject.toml")}
    for each in objects_of(value_set("minimal")):
        if each["kind"] == "Deployment":
            container = agent_container(each)
            component = each["metadata"]["labels"]["app.kubernetes.io/component"]
            assert component in services
            assert container["name"] == component and container["image"] == f"shanty/{component}:{app_version()}"


def test_what_a_specialist_says_goes_before_what_all_of_them_are_like() -> None:
    objects = objects_of(value_set("everything"))
    logs, metrics = only(objects, "Deployment", "crew-logs"), only(objects, "Deployment", "crew-metrics")
    of_logs, of_metrics = agent_container(logs), agent_container(metrics)

    assert (logs["spec"]["replicas"], metrics["spec"]["replicas"]) == (3, 2)
    assert environment(of_logs)["SHANTY_MODEL"] == "haiku" and environment(of_metrics)["SHANTY_MODEL"] == "sonnet"
    assert of_logs["resources"] == {"limits": {"memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "160Mi"}}
    assert of_logs["image"] == "registry.example:5000/acme/specialist-with-team:2.0.0"
    assert "topologySpreadConstraints" in logs["spec"]["template"]["spec"]
    assert "topologySpreadConstraints" not in metrics["spec"]["template"]["spec"]


def test_a_variable_of_an_agent_goes_before_that_of_everybody_and_that_before_the_charts() -> None:
    objects = objects_of(value_set("everything"))

    for_logs = environment(agent_container(only(objects, "Deployment", "logs")))
    assert (for_logs["TZ"], for_logs["SHANTY_LOG_LEVEL"]) == ("Europe/Bremen", "warning")
    assert for_logs["TOKEN"] == {"secretKeyRef": {"name": "tokens", "key": "token"}}
    assert for_logs["ANTHROPIC_API_KEY"] == {"secretKeyRef": {"name": "anthropic", "key": "key"}}
    assert environment(containers(only(objects, "Job")["spec"]["template"]["spec"])[0])["TZ"] == "UTC"


@every_value_set
def test_kubernetes_waits_longer_than_a_service_drains(path: Path) -> None:
    for deployment in objects_of(yaml(path.read_text())):
        if deployment["kind"] == "Deployment":
            drain_s = int(environment(agent_container(deployment))["SHANTY_DRAIN_S"])
            assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= drain_s + 11


def test_a_budget_for_disruptions_is_there_for_more_than_one_replica() -> None:
    assert names(objects_of(value_set("minimal")), "PodDisruptionBudget") == ["demo-shanty-lead"]
    assert names(objects_of(value_set("everything")), "PodDisruptionBudget") == ["crew-logs", "crew-toolgateway"]
    assert names(objects_of(value_set("hpa")), "PodDisruptionBudget") == ["demo-shanty-lead", "demo-shanty-logs"]


def test_the_files_of_the_team_are_where_they_were_in_its_folder() -> None:
    values = value_set("team")
    objects = objects_of(values)
    data = only(objects, "ConfigMap", "-team")["data"]
    pod = only(objects, "Deployment", "greeter")["spec"]["template"]["spec"]
    items = next(volume for volume in pod["volumes"] if volume["name"] == "team")["configMap"]["items"]
    mount = next(each for each in containers(pod)[0]["volumeMounts"] if each["name"] == "team")

    assert {item["path"]: data[item["key"]] for item in items} == values["team"]["files"]
    assert len(data) == len(items)
    assert all(re.fullmatch(r"[-._a-zA-Z0-9]+", key) and not key.startswith("..") for key in data)
    assert environment(containers(pod)[0])["SHANTY_TEAM"] == mount["mountPath"] == "/team"


def test_a_changed_team_replaces_the_pods_and_leaves_the_bus_alone() -> None:
    before = value_set("team")
    after = merged(before, {"team": {"files": {"agents/greeter.md": "---\nname: greeter\n---\nGreet twice."}}})
    old, new = objects_of(before), objects_of(after)

    assert only(old, "Deployment", "counter")["spec"] != only(new, "Deployment", "counter")["spec"]
    assert only(old, "Job") == only(new, "Job")


def test_a_team_that_is_in_the_image_is_not_mounted() -> None:
    objects = objects_of(value_set("minimal"))

    assert names(objects, "ConfigMap") == []
    assert "team" not in {
        each["name"] for each in agent_container(only(objects, "Deployment", "lead"))["volumeMounts"]
    }


@pytest.mark.parametrize(
    "change",
    [
        {"specialists": [{"name": "logs"}]},
        {"nats": {"lanes": ["0", "1"]}},
        {"nats": {"url": "nats://elsewhere:4222"}},
        {"initBus": {"streamReplicas": 3}},
        {"initBus": {"startsOn": "incident=alerts.>,orders.failed"}},
        {"initBus": {"keepDays": 30}},
        {"initBus": {"maxBytes": "8G"}},
        {"image": {"tag": "2.0.0"}},
        {"leaseS": 30},
    ],
    ids=["specialists", "lanes", "url", "replicas", "subjects", "days", "bytes", "image", "lease"],
)
def test_another_bus_has_another_job(change: dict[str, Any]) -> None:
    values = value_set("minimal")
    before, after = only(objects_of(values), "Job"), only(objects_of(merged(values, change)), "Job")

    assert before["spec"] != after["spec"]
    assert before["metadata"]["name"] != after["metadata"]["name"]


def test_what_the_bus_does_not_depend_on_keeps_its_job() -> None:
    values = value_set("minimal")
    other = {"lead": {"replicas": 5}, "logLevel": "debug", "specialists": [{"name": "greeter", "replicas": 7}]}

    assert only(objects_of(values), "Job") == only(objects_of(merged(values, other)), "Job")


def test_how_long_and_how_much_the_bus_keeps_is_left_to_the_bus_unless_it_is_said() -> None:
    def options(values: Values) -> set[str]:
        (container,) = containers(only(objects_of(values), "Job")["spec"]["template"]["spec"])
        return {each for each in container["args"] if each.startswith(("--keep-days", "--max-bytes"))}

    assert options(value_set("minimal")) == set()
    assert options(value_set("everything")) == {"--keep-days=30", "--max-bytes=8G"}


def test_keda_looks_at_the_mail_and_the_timers_of_an_agent_in_each_of_its_lanes() -> None:
    objects = objects_of(value_set("keda"))
    logs, metrics = only(objects, "ScaledObject", "logs")["spec"], only(objects, "ScaledObject", "metrics")["spec"]

    def queues(spec: Manifest) -> list[tuple[str, str]]:
        return [(each["metadata"]["stream"], each["metadata"]["consumer"]) for each in spec["triggers"]]

    assert queues(logs) == [(each.stream, each.name) for lane in ("0", "1") for each in agent_consumers(lane, "logs")]
    assert queues(metrics) == [(each.stream, each.name) for each in agent_consumers("1", "metrics")]
    assert logs["triggers"][0] == {
        "type": "nats-jetstream",
        "metadata": {
            "natsServerMonitoringEndpoint": "nats-0.nats:8443",
            "useHttps": "true",
            "account": "INCIDENT",
            "stream": "SHANTY_0",
            "consumer": "mail-logs",
            "lagThreshold": "4",
            "activationLagThreshold": "0",
        },
    }
    of_metrics = metrics["triggers"][0]["metadata"]
    assert of_metrics["natsServerMonitoringEndpoint"] == "nats-monitor.bus:8222" and of_metrics["useHttps"] == "false"
    assert of_metrics["lagThreshold"] == "2"
    assert (logs["minReplicaCount"], logs["maxReplicaCount"]) == (0, 8)
    assert logs["fallback"] == {"failureThreshold": 3, "replicas": 1} and "fallback" not in metrics


@pytest.mark.parametrize("kind", ["keda", "hpa"])
def test_the_number_of_replicas_is_left_to_the_autoscaler(kind: str) -> None:
    objects = objects_of(value_set(kind))

    assert "replicas" not in only(objects, "Deployment", "logs")["spec"]
    assert only(objects, "Deployment", "lead")["spec"]["replicas"] == 2


def test_an_hpa_scales_on_the_external_metric_of_each_queue() -> None:
    spec = only(objects_of(value_set("hpa")), "HorizontalPodAutoscaler", "logs")["spec"]

    assert (spec["minReplicas"], spec["maxReplicas"], spec["scaleTargetRef"]["name"]) == (2, 6, "demo-shanty-logs")
    assert [each["external"] for each in spec["metrics"]] == [
        {
            "metric": {
                "name": "backlog",
                "selector": {"matchLabels": {"server": "nats", "stream": each.stream, "consumer": each.name}},
            },
            "target": {"type": "AverageValue", "averageValue": "4"},
        }
        for each in agent_consumers("0", "logs")
    ]


def test_in_zones_everybody_logs_in_as_itself() -> None:
    objects = objects_of(value_set("zones"))
    seen = {}
    for name, pod in pod_specs(objects):
        variables = environment(containers(pod)[-1])
        secret = next(volume["secret"] for volume in pod["volumes"] if volume["name"] == "nats-login")
        assert variables["SHANTY_NATS_NKEY_SEED"] == "/etc/shanty/nats/nats.nk"
        assert variables["SHANTY_NATS_TLS_CERT"] == "/etc/shanty/tls/tls.crt"
        inbox, zone = variables["SHANTY_NATS_INBOX_PREFIX"], variables.get("SHANTY_NATS_ZONE")
        seen[name.rpartition("-")[2]] = (secret["secretName"], inbox, zone)
    job = only(objects, "Job")["metadata"]["name"].rpartition("-")[2]

    assert seen == {
        "lead": ("incident-lead", "_INBOX_lead", None),
        "logs": ("incident-logs", "_INBOX_logs", "agent"),
        "metrics": ("incident-metrics", "_INBOX_metrics", "agent"),
        job: ("incident-installer", "_INBOX_installer", None),
        "test": ("incident-operators", "_INBOX_operators", None),
    }


def test_for_an_auth_callout_each_service_shows_a_token_of_its_own_service_account() -> None:
    objects = objects_of(value_set("callout"))
    pod = only(objects, "Deployment", "logs")["spec"]["template"]["spec"]
    volume = next(volume for volume in pod["volumes"] if volume["name"] == "nats-login")

    token = {"path": "token", "audience": "nats.example", "expirationSeconds": 1200}
    assert volume["projected"]["sources"] == [{"serviceAccountToken": token}]
    assert environment(containers(pod)[0])["SHANTY_NATS_TOKEN_FILE"] == "/etc/shanty/nats/token"
    assert pod["serviceAccountName"] == "demo-shanty-logs" in names(objects, "ServiceAccount")
    assert only(objects, "Deployment", "metrics")["spec"]["template"]["spec"]["serviceAccountName"] == "of-mine"
    assert "demo-shanty-metrics" not in names(objects, "ServiceAccount")


def test_traffic_that_is_not_named_is_denied() -> None:
    objects = objects_of(value_set("everything"))
    everybody, agents = only(objects, "NetworkPolicy", "crew"), only(objects, "NetworkPolicy", "crew-agents")

    assert everybody["spec"]["policyTypes"] == agents["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in everybody["spec"]
    ports = [[port["port"] for port in rule["ports"]] for rule in everybody["spec"]["egress"]]
    assert ports == [[53, 53, 5353, 5353], [4222, 8222], [4317, 4318]]
    model, extra = agents["spec"]["egress"]
    assert model == {"ports": [{"protocol": "TCP", "port": 443}], "to": [{"ipBlock": {"cidr": "160.79.104.0/23"}}]}
    assert extra == {"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}
    for name, pod in pod_specs(objects):
        assert pod, name
    chosen = everybody["spec"]["podSelector"]["matchLabels"].items()
    for each in objects:
        if "template" in each.get("spec", {}):
            assert chosen <= each["spec"]["template"]["metadata"]["labels"].items()


def test_prometheus_and_grafana_get_what_deploy_has() -> None:
    objects = objects_of(value_set("everything"))
    rule = only(objects, "PrometheusRule")
    source = (ROOT / "deploy" / "prometheus" / "rules" / "shanty.yml").read_text()
    expected = yaml(source.replace("runbook_url: ", "runbook_url: https://runbooks.example/"))
    boards = sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))

    assert rule["spec"] == expected
    assert only(objects, "ConfigMap", "dashboards")["data"] == {board.name: board.read_text() for board in boards}
    assert names(objects_of(value_set("minimal")), "PodMonitor") == []


def test_the_copies_in_the_chart_are_the_files_they_are_copies_of() -> None:
    sources = {
        "rules": sorted((ROOT / "deploy" / "prometheus" / "rules").glob("*.yml")),
        "dashboards": sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json")),
    }
    for folder, files in sources.items():
        copies = sorted((CHART / "files" / folder).iterdir())
        assert [copy.name for copy in copies] == [file.name for file in files], f"make chart-files copies {folder}"
        for file, copy in zip(files, copies, strict=True):
            assert file.read_bytes() == copy.read_bytes(), f"make chart-files copies {file.name}"


def test_helm_test_looks_for_what_is_wrong_and_then_runs_the_team() -> None:
    pod = only(objects_of(value_set("team")), "Pod")
    doctor, run = pod["spec"]["initContainers"][0], pod["spec"]["containers"][0]

    assert pod["metadata"]["annotations"] == {"helm.sh/hook": "test"}
    assert doctor["args"] == ["doctor", "--team=/team"]
    assert run["args"][:2] == ["run", "/team"] and any(
        each.startswith("--goal=This is a test") for each in run["args"]
    )


def test_an_agent_that_rests_is_not_missed_by_helm_test() -> None:
    doctor = only(objects_of(value_set("keda")), "Pod")["spec"]["initContainers"][0]

    assert doctor["args"] == ["doctor"]


def test_the_chart_has_no_hooks_but_the_test_and_nothing_that_a_gitops_controller_cannot_render() -> None:
    for template in sorted(CHART.rglob("templates/**/*")):
        if template.is_file():
            text = template.read_text()
            assert not re.search(r"\b(lookup|rand\w+|genCA|gen\w+Cert|now|uuidv4|Capabilities)\b", text), template
            assert "helm.sh/hook" not in text or template.parent.name == "tests"


def test_the_version_of_the_chart_is_that_of_what_it_deploys() -> None:
    project = (ROOT / "services" / "runtime" / "pyproject.toml").read_text()

    assert f'version = "{app_version()}"' in project
    assert yaml((CHART / "Chart.yaml").read_text())["version"] == app_version()


def app_version() -> str:
    return str(yaml((CHART / "Chart.yaml").read_text())["appVersion"])


def agent_container(deployment: Manifest) -> Manifest:
    found = containers(deployment["spec"]["template"]["spec"])[0]
    assert found["name"] in ("lead", "specialist", "toolgateway")
    return found


@pytest.mark.parametrize(("fetched", "exporters"), [(True, {"none"}), (False, {None})])
def test_metrics_are_fetched_or_sent_and_never_both(fetched: bool, exporters: set[str | None]) -> None:
    telemetry = {"otlpEndpoint": "http://collector:4318", "podMonitor": {"enabled": fetched}}
    found = objects_of(merged(value_set("minimal"), {"telemetry": telemetry}))
    pods = [each["spec"]["template"]["spec"] for each in found if each["kind"] == "Deployment"]
    variables = [{one["name"]: one.get("value") for one in pod["containers"][0]["env"]} for pod in pods]
    assert {each.get("OTEL_METRICS_EXPORTER") for each in variables} == exporters
