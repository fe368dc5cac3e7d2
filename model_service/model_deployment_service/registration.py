"""Exports as versions of the registry."""

from collections.abc import Iterator
from pathlib import Path

from model_service.errors import NotFound
from model_service.model_deployment_service.durable import sha256_of
from model_service.model_deployment_service.errors import ModelDeploymentError
from model_service.model_deployment_service.export_folder import AGAIN, SOURCE, Export
from model_service.model_deployment_service.registry import OpenRegistry
from model_service.services.files.files import NewFile
from model_service.states import ModelStatus
from model_service.storage.models.documents import Model

_CHUNK_BYTES = 1 << 20


def registered_before(registry: OpenRegistry, export: Export) -> Model | None:
    """Return the registry's version of an export; None: it has to be registered.

    Raises:
        NotFound: the version of a training job's export was deleted.
    """
    models = registry.services.models
    if export.registered:
        return models.get(export.metadata.model_id)
    model_id = registry.stores.age_groups.model_of(export.name)
    try:
        return None if model_id is None else models.get(str(model_id))
    except NotFound:  # deleted since
        return None


def register(registry: OpenRegistry, export: Export) -> Model:
    """Register the export as a version with the network as its file. Returns the version.

    Raises:
        ModelDeploymentError: the network's file is missing or was changed.
    """
    services, metadata, source = registry.services, export.metadata, export.folder / SOURCE
    if not source.is_file() or sha256_of(source) != export.source_sha256:
        raise ModelDeploymentError(
            f"{export.name}: {SOURCE} is missing or was changed, so the model cannot be registered. {AGAIN}"
        )
    model = services.models.register(
        {
            "name": export.model_name,
            "algorithm": metadata.model_type,
            "framework": "pytorch",
            "description": f"Deployed from the export {export.name}, model_version {metadata.model_version}.",
            "task_type": None,
            "status": ModelStatus.ACTIVE,
            "hyperparameters": {},
            "metrics": metadata.training_metrics,
            "dataset_info": {},
            "tags": [],
        }
    )
    reference = str(model["_id"])
    try:
        services.files.store(
            services.files.writable(reference),
            _pieces(source),
            NewFile.at(SOURCE),
            sha256=export.source_sha256,
        )
    except BaseException:
        services.models.delete(reference, purge=True)
        raise
    return services.models.get(reference)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_CHUNK_BYTES):
            yield piece


def discard(registry: OpenRegistry, export: Export, model: Model) -> None:
    """Remove a version that ``register`` has stored, unless its deployment was committed nevertheless."""
    if registry.stores.age_groups.model_of(export.name) != model["_id"]:
        registry.services.models.delete(str(model["_id"]), purge=True)
