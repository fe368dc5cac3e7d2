"""Renders the Helm chart: ``python -m tests.deploy.rendering`` writes deploy/manifests."""

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.deploy import helm

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "model-service"
MANIFESTS = ROOT / "deploy" / "manifests"
VALUES = ROOT / "deploy" / "manifests-values.yaml"
NAME, NAMESPACE = "model-service", "tensorfleet"
_NOTICE = (
    "# Rendered from deploy/helm/model-service by scripts/manifests with deploy/manifests-values.yaml.\n"
)
_OF_HELM = re.compile(r"^ +(app\.kubernetes\.io/managed-by|helm\.sh/chart): .*\n", re.MULTILINE)
# A cluster without this CRD can apply the other files.
_OWN_FILE = frozenset({"ServiceMonitor"})


def values_of(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text()) or {}


def render(values: Mapping[str, Any], name: str = NAME) -> list[str]:
    """The documents as text, the Deployments first. Raises: SchemaError."""
    documents = [
        document.strip() + "\n"
        for path, text in sorted(_files(values, name).items())
        if path.endswith(".yaml")
        for document in re.split(r"^---\n", text, flags=re.MULTILINE)
        if document.strip()
    ]
    return sorted(documents, key=lambda document: "\nkind: Deployment\n" not in document)


def notes(values: Mapping[str, Any], name: str = NAME) -> str:
    """What Helm prints after the installation."""
    (text,) = (text for path, text in _files(values, name).items() if path.endswith("/NOTES.txt"))
    return text


def _files(values: Mapping[str, Any], name: str) -> dict[str, str]:
    return helm.render(CHART, values, name, NAMESPACE)


def objects(values: Mapping[str, Any], name: str = NAME) -> list[dict[str, Any]]:
    return [yaml.safe_load(document) for document in render(values, name)]


def manifests() -> dict[str, str]:
    """File name → content of deploy/manifests."""
    found: dict[str, list[str]] = defaultdict(list)
    for document in render(values_of(VALUES)):
        rendered = yaml.safe_load(document)
        component = rendered["metadata"]["labels"].get("app.kubernetes.io/component", "shared")
        file = rendered["kind"].lower() if rendered["kind"] in _OWN_FILE else component
        found[f"{file}.yaml"].append(_OF_HELM.sub("", document))
    return {name: _NOTICE + "---\n".join(documents) for name, documents in sorted(found.items())}


if __name__ == "__main__":
    for name, content in manifests().items():
        (MANIFESTS / name).write_text(content)
