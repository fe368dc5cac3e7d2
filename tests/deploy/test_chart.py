"""The Helm chart: its values, and the objects that it renders."""

import copy
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from model_service import __version__
from model_service.metrics import GAUGES
from tests.deploy import helm
from tests.deploy.pod_security import violations
from tests.deploy.rendering import CHART, MANIFESTS, ROOT, VALUES, manifests, notes, objects, values_of

# The oldest version that the chart accepts, one between, and the newest.
KUBERNETES = ("1.30", "1.34", "1.37")
_SERVICE_MONITOR = json.loads((ROOT / "tests" / "deploy" / "servicemonitor.schema.json").read_text())
_NAME_BYTES = 63
_SECRETS = {"apiKey": "348a8f4748f44a06", "signingSecret": "348a8f4748f44a06" * 2}


def check(document: dict[str, Any], version: str) -> None:
    """Raises: ValidationError, or SchemaNotFoundError for a kind without a schema."""
    if document.get("apiVersion") == "monitoring.coreos.com/v1" and document["kind"] == "ServiceMonitor":
        jsonschema.Draft202012Validator(_SERVICE_MONITOR).validate(document)
    else:
        assert kubernetes_validate.validate(document, version, strict=True) == version


def kinds(documents: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [document for document in documents if document["kind"] == kind]


def deployment(documents: list[dict[str, Any]], component: str) -> dict[str, Any]:
    (found,) = (each for each in kinds(documents, "Deployment") if component_of(each) == component)
    return found


def cron_job(documents: list[dict[str, Any]]) -> dict[str, Any]:
    """The template of the pods of the backup."""
    (found,) = kinds(documents, "CronJob")
    template: dict[str, Any] = found["spec"]["jobTemplate"]["spec"]["template"]
    return template


def templates(documents: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The templates of pods by the name of the Deployment or CronJob."""
    of_jobs = {each["metadata"]["name"]: cron_job(documents) for each in kinds(documents, "CronJob")}
    return of_jobs | {
        each["metadata"]["name"]: each["spec"]["template"] for each in kinds(documents, "Deployment")
    }


def component_of(document: Mapping[str, Any]) -> str:
    return str(document["metadata"]["labels"]["app.kubernetes.io/component"])


def pod(document: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["spec"]["template"]["spec"]
    return found


def selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    return selector.items() <= labels.items()


@pytest.mark.parametrize("version", KUBERNETES)
def test_every_object_is_valid(rendered: list[dict[str, Any]], version: str) -> None:
    for document in rendered:
        check(document, version)


@pytest.mark.parametrize(
    ("document", "error"),
    [
        ({"apiVersion": "example.com/v1", "kind": "Unknown"}, kubernetes_validate.SchemaNotFoundError),
        ({"apiVersion": "apps/v1beta1", "kind": "Deployment"}, kubernetes_validate.SchemaNotFoundError),
        (
            {"apiVersion": "monitoring.coreos.com/v1", "kind": "PodMonitor"},
            kubernetes_validate.SchemaNotFoundError,
        ),
        ({"apiVersion": "v1", "kind": "Service", "specs": {}}, kubernetes_validate.ValidationError),
        (
            {"apiVersion": "monitoring.coreos.com/v1", "kind": "ServiceMonitor", "metadata": {"name": "a"}},
            jsonschema.ValidationError,
        ),
    ],
)
def test_an_unknown_kind_and_a_wrong_field_fail(document: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        check(document, KUBERNETES[-1])


@pytest.mark.parametrize("values", sorted((CHART / "ci").iterdir()), ids=lambda path: path.stem)
def test_helm_lints_the_chart(values: Any) -> None:
    report = helm.lint(CHART, values_of(values), "tensorfleet")
    assert report["errors"] == []
    assert [found["error"] for found in report["messages"]] == ["icon is recommended"]


def test_helm_is_not_loaded_into_this_process() -> None:
    """A worker of pytest that had loaded it ended by SIGSEGV when a connection was closed."""
    objects({"auth": _SECRETS})
    assert "helm_python" not in Path("/proc/self/maps").read_text()


def test_the_chart_installs_this_version() -> None:
    chart = values_of(CHART / "Chart.yaml")
    assert chart["appVersion"] == __version__
    assert chart["kubeVersion"] == f">={KUBERNETES[0]}.0-0"


def test_the_manifests_are_those_of_the_chart() -> None:
    stored = {path.name: path.read_text() for path in MANIFESTS.iterdir()}
    namespace = yaml.safe_load(stored.pop("00-namespace.yaml"))
    assert stored == manifests(), "run scripts/manifests"
    for version in KUBERNETES:
        check(namespace, version)
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize(
    "wrong",
    [
        {"replicas": 3},
        {"api": {"replicas": "3"}},
        {"api": {"replicas": -1}},
        {"api": {"port": 80}},
        {"api": {"resources": {"limits": {"memory": "512 MB"}}}},
        {"api": {"image": {"digest": "latest"}}},
        {"api": {"autoscaling": {"targetAverageValue": "2"}}},
        {"api": {"livenessProbe": {"httpGet": {"path": "/"}}}},
        {"api": {"strategy": {"type": "Rolling"}}},
        {"api": {"env": [{"value": "a name is missing"}]}},
        {"worker": {"podDisruptionBudget": {"maxUnavailable": "half"}}},
        {"image": {"repository": "Model Service"}},
        {"image": {"pullPolicy": "Sometimes"}},
        {"mongodb": {"existingSecret": ""}},
        {"mongodb": {"url": "localhost:27017"}},
        {"mongodb": {"database": "no.dots"}},
        {"redis": {"url": "http://redis:6379"}},
        {"auth": {"existingSecret": ""}},
        {"auth": {"apiKey": "too short"}},
        {"auth": {"enabled": "yes"}},
        {"publicUrl": "models.example.com"},
        {"trustedProxies": -1},
        {"config": {"MAX_FILESIZE": "1GB"}},
        {"config": {"MAX_FILE_SIZE": 1000000000}},
        {"config": {"MONGODB_URL": "mongodb://elsewhere"}},
        {"config": {"API_KEY": "348a8f4748f44a06"}},
        {"ingress": {"controller": "traefik"}},
        {"ingress": {"maxBodySize": "unlimited"}},
        {"ingress": {"api": {"host": "https://models.example.com"}}},
        {"networkPolicy": {"clients": [{"pods": {}}]}},
        {"serviceMonitor": {"interval": 30}},
        {"service": {"type": "ExternalName"}},
        {"backup": {"schedule": "daily"}},
        {"backup": {"keep": 0}},
        {"topologySpreadConstraints": [{"topologyKey": "zone"}]},
    ],
    ids=str,
)
def test_the_schema_rejects(wrong: dict[str, Any]) -> None:
    with pytest.raises(helm.SchemaError):
        objects(wrong)


def described(schema: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every property of the schema by its path, with the definition that it refers to."""
    for name, each in schema.get("properties", {}).items():
        yield f"{path}{name}", each
        yield from described(resolved(each), f"{path}{name}.")


def resolved(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    references = [each["$ref"] for each in schema.get("allOf", []) if "$ref" in each]
    if not references:
        return schema
    found: Mapping[str, Any] = schema_of_values()["definitions"][references[0].rpartition("/")[2]]
    return found


def schema_of_values() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
    return found


def paths(values: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for name, value in values.items():
        yield f"{path}{name}"
        if isinstance(value, dict):
            yield from paths(value, f"{path}{name}.")


def test_the_schema_describes_every_value() -> None:
    schema = schema_of_values()
    fields = dict(described(schema))
    assert [path for path, field in fields.items() if not field.get("description")] == []
    named = set(paths(values_of(CHART / "values.yaml")))
    free = ("SecurityContext.", "securityContext.", "requests.", "limits.", "rollingUpdate.")
    assert {path for path in named - set(fields) if not any(each in path for each in free)} == set()


def test_the_api_is_that_of_the_seed() -> None:
    """Names, replicas, resources and the secret as its users deployed it before."""
    documents = objects({})
    api = deployment(documents, "api")
    (container,) = pod(api)["containers"]
    assert (api["metadata"]["name"], api["spec"]["replicas"]) == ("model-service", 3)
    assert container["resources"] == {
        "requests": {"memory": "256Mi", "cpu": "250m"},
        "limits": {"memory": "512Mi", "cpu": "500m"},
    }
    (url,) = (each["valueFrom"] for each in container["env"] if each["name"] == "MONGODB_URL")
    assert url == {"secretKeyRef": {"name": "mongodb-secret", "key": "connection-string"}}
    (service,) = (each for each in kinds(documents, "Service") if each["metadata"]["name"] == "model-service")
    assert service["spec"]["type"] == "ClusterIP"
    assert [port["port"] for port in service["spec"]["ports"]] == [8084]


def test_the_notes_name_a_service_of_the_chart() -> None:
    for name in ("model-service", "models"):
        documents = objects({}, name)
        (service,) = re.findall(r"port-forward service/(\S+) 8084", notes({}, name))
        assert (
            component_of(
                next(each for each in kinds(documents, "Service") if each["metadata"]["name"] == service)
            )
            == "api"
        )


def test_no_default_secret() -> None:
    assert kinds(objects({}), "Secret") == []
    (secret,) = kinds(objects({"auth": _SECRETS}), "Secret")
    assert list(secret["stringData"].values()) == list(_SECRETS.values())


def test_names_are_unique_and_short_enough() -> None:
    for name in ("model-service", "a", "r" * 53):
        documents = objects(values_of(CHART / "ci" / "production-values.yaml"), name)
        names = [(document["kind"], document["metadata"]["name"]) for document in documents]
        assert len(names) == len(set(names))
        assert [each for _, each in names if len(each) > _NAME_BYTES] == []


def test_the_pods_have_the_restricted_profile_and_no_token(rendered: list[dict[str, Any]]) -> None:
    accounts = {account["metadata"]["name"]: account for account in kinds(rendered, "ServiceAccount")}
    for template in templates(rendered).values():
        spec = template["spec"]
        assert list(violations(spec)) == []
        assert spec["automountServiceAccountToken"] is False
        account = accounts.get(spec["serviceAccountName"])
        assert account is None or account["automountServiceAccountToken"] is False
        for container in spec["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert {mount["mountPath"] for mount in container["volumeMounts"]} >= {"/data", "/tmp"}


@pytest.mark.parametrize(
    ("change", "violation"),
    [
        ({"hostNetwork": True}, "hostNetwork"),
        ({"hostPID": True}, "hostPID"),
        ({"volumes": [{"name": "host", "hostPath": {"path": "/"}}]}, "volume host"),
        ({"securityContext": {"runAsNonRoot": True}}, "api: seccompProfile"),
        ({"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}, "api: runAsNonRoot"),
        ({"securityContext": {"runAsUser": 0}}, "pod: runAsUser"),
        ({"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}, "sysctl kernel.msgmax"),
        ({"container": {"privileged": True}}, "api: privileged"),
        ({"container": {"allowPrivilegeEscalation": None}}, "api: allowPrivilegeEscalation"),
        ({"container": {"capabilities": {"drop": ["KILL"]}}}, "api: capabilities"),
        ({"container": {"capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}}}, "api: capabilities"),
        ({"container": {"runAsNonRoot": False}}, "api: runAsNonRoot"),
        ({"container": {"runAsUser": 0}}, "api: runAsUser"),
        ({"container": {"seccompProfile": {"type": "Unconfined"}}}, "api: seccompProfile"),
        ({"container": {"procMount": "Unmasked"}}, "api: procMount"),
        ({"container": {"appArmorProfile": {"type": "Unconfined"}}}, "api: appArmorProfile"),
        ({"container": {"seLinuxOptions": {"type": "spc_t"}}}, "api: seLinuxOptions"),
        ({"container": {"windowsOptions": {"hostProcess": True}}}, "api: hostProcess"),
        ({"ports": [{"containerPort": 8084, "hostPort": 8084}]}, "api: hostPort"),
        (
            {"livenessProbe": {"httpGet": {"path": "/", "port": 80, "host": "10.0.0.1"}}},
            "api: host of a probe",
        ),
    ],
    ids=str,
)
def test_the_check_of_the_profile_finds(change: dict[str, Any], violation: str) -> None:
    changed = copy.deepcopy(pod(deployment(objects({}), "api")))
    (container,) = changed["containers"]
    container["securityContext"] |= change.pop("container", {})
    for field in ("ports", "livenessProbe"):
        if field in change:
            container[field] = change.pop(field)
    assert violation in list(violations(changed | change))


def test_selectors_select_the_pods_of_one_deployment(rendered: list[dict[str, Any]]) -> None:
    labels_of = {name: template["metadata"]["labels"] for name, template in templates(rendered).items()}
    selectors = {
        "Service": lambda spec: spec["selector"],
        "Deployment": lambda spec: spec["selector"]["matchLabels"],
        "PodDisruptionBudget": lambda spec: spec["selector"]["matchLabels"],
        "NetworkPolicy": lambda spec: spec["podSelector"]["matchLabels"],
    }
    for document in rendered:
        if select := selectors.get(document["kind"]):
            selector, name = select(document["spec"]), document["metadata"]["name"]
            assert [each for each, labels in labels_of.items() if selects(selector, labels)] == [name]
    for each in kinds(rendered, "Deployment"):
        for constraint in pod(each).get("topologySpreadConstraints", []):
            assert constraint["labelSelector"] == each["spec"]["selector"]


def test_names_that_objects_refer_to_exist(rendered: list[dict[str, Any]]) -> None:
    deployments = {each["metadata"]["name"]: each for each in kinds(rendered, "Deployment")}
    services = {each["metadata"]["name"]: each for each in kinds(rendered, "Service")}
    config_maps = {each["metadata"]["name"] for each in kinds(rendered, "ConfigMap")}
    secrets = {each["metadata"]["name"]: each for each in kinds(rendered, "Secret")}
    for scaler in kinds(rendered, "HorizontalPodAutoscaler"):
        target = deployments[scaler["spec"]["scaleTargetRef"]["name"]]
        assert "replicas" not in target["spec"], "each apply would undo the autoscaling"
    for service in services.values():
        (container,) = pod(deployments[service["metadata"]["name"]])["containers"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        for port in service["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"]
    for site in kinds(rendered, "Ingress"):
        for rule in site["spec"]["rules"]:
            backend = rule["http"]["paths"][0]["backend"]["service"]
            assert backend["port"]["name"] in {p["name"] for p in services[backend["name"]]["spec"]["ports"]}
    for monitor in kinds(rendered, "ServiceMonitor"):
        found = [
            service
            for service in services.values()
            if selects(monitor["spec"]["selector"]["matchLabels"], service["metadata"]["labels"])
        ]
        assert {component_of(service) for service in found} == {"api", "worker", "serving"}
        assert {port["name"] for service in found for port in service["spec"]["ports"]} == {
            endpoint["port"] for endpoint in monitor["spec"]["endpoints"]
        }
        assert monitor["spec"]["jobLabel"] in found[0]["metadata"]["labels"]
    claims = {each["metadata"]["name"] for each in kinds(rendered, "PersistentVolumeClaim")}
    for template in templates(rendered).values():
        (container,) = template["spec"]["containers"]
        assert {source["configMapRef"]["name"] for source in container["envFrom"]} <= config_maps
        volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
        for volume in volumes.values():
            assert volume.get("persistentVolumeClaim", {}).get("claimName") in {None, *claims}
        for variable in container["env"]:
            reference = variable.get("valueFrom", {}).get("secretKeyRef", {})
            if secret := secrets.get(reference.get("name")):
                assert reference["key"] in secret["stringData"]


def test_uploads_of_any_size_pass_the_ingress() -> None:
    for controller, expected in {
        "ingress-nginx": {
            "nginx.ingress.kubernetes.io/proxy-body-size": "0",
            "nginx.ingress.kubernetes.io/proxy-request-buffering": "off",
            "nginx.ingress.kubernetes.io/proxy-read-timeout": "600",
            "nginx.ingress.kubernetes.io/proxy-send-timeout": "600",
        },
        "nginx-ingress": {
            "nginx.org/client-max-body-size": "0",
            "nginx.org/proxy-read-timeout": "600s",
            "nginx.org/proxy-send-timeout": "600s",
        },
    }.items():
        sites = kinds(objects({"ingress": {"enabled": True, "controller": controller}}), "Ingress")
        given = [site["metadata"]["annotations"] for site in sites if paths_of(site) == ["/"]]
        assert given == [expected, expected]


def paths_of(site: Mapping[str, Any]) -> list[str]:
    return [path["path"] for rule in site["spec"]["rules"] for path in rule["http"]["paths"]]


def test_the_ingress_denies_the_metrics() -> None:
    """They need no key. ingress-nginx denies every client of an Ingress, not of a path."""
    sites = kinds(objects(values_of(CHART / "ci" / "production-values.yaml")), "Ingress")
    denied = [site for site in sites if paths_of(site) == ["/metrics"]]
    hosts = [[rule["host"] for rule in site["spec"]["rules"]] for site in denied]
    assert hosts == [["models.example.com"], ["inference.example.com"]]
    for site in denied:
        assert site["metadata"]["annotations"] == {
            "nginx.ingress.kubernetes.io/denylist-source-range": "0.0.0.0/0,::/0"
        }
        assert site["spec"]["rules"][0]["http"]["paths"][0]["pathType"] == "Prefix"  # also /metrics/
        assert site["spec"]["ingressClassName"] == "nginx"


def test_workers_scale_with_the_queue() -> None:
    documents = objects(values_of(VALUES))
    (scaler,) = (
        each for each in kinds(documents, "HorizontalPodAutoscaler") if component_of(each) == "worker"
    )
    (metric,) = scaler["spec"]["metrics"]
    assert metric["type"] == "External"
    assert metric["external"]["target"]["type"] == "AverageValue"
    name = metric["external"]["metric"]["name"]
    assert name in GAUGES
    assert set(re.findall(r"model_service_\w+", (ROOT / "docs" / "kubernetes.md").read_text())) == {name}


def test_only_the_api_has_the_key_of_the_administrator() -> None:
    documents = objects({})
    for component in ("api", "worker", "serving"):
        (container,) = pod(deployment(documents, component))["containers"]
        secrets = {"API_KEY", "SIGNING_SECRET"} & {variable["name"] for variable in container["env"]}
        assert secrets == ({"API_KEY", "SIGNING_SECRET"} if component == "api" else set())


def test_the_backup_is_off_by_default_and_stops_with_the_pods() -> None:
    assert kinds(objects({}), "CronJob") == kinds(objects({}), "PersistentVolumeClaim") == []
    documents = objects({"backup": {"enabled": True, "existingClaim": "archives"}, "stopped": True})
    (job,) = kinds(documents, "CronJob")
    assert job["spec"]["suspend"] is True
    assert kinds(documents, "PersistentVolumeClaim") == []
    volumes = cron_job(documents)["spec"]["volumes"]
    assert {"claimName": "archives"} in [volume.get("persistentVolumeClaim") for volume in volumes]


def test_only_databases_and_names_are_reached_from_the_pods() -> None:
    for policy in kinds(objects({}), "NetworkPolicy"):
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        ports = {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
        assert ports == {53, 27017, 6379}
