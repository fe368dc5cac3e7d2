"""Exports as versions of the registry."""

from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

from model_service.errors import NotFound
from model_service.model_deployment_service.export_folder import SOURCE, Export, require_source
from model_service.model_deployment_service.registry import OpenRegistry
from model_service.services.common.idempotency import Once
from model_service.services.files.files import NewFile
from model_service.states import ModelStatus
from model_service.storage.common.db import Session
from model_service.storage.models.documents import Model

_CHUNK_BYTES = 1 << 20
_ROUTE = "register the export"


class _Deployed(Exception):
    """An age group refers to the version."""


def registered_before(registry: OpenRegistry, export: Export) -> Model | None:
    """Return the registry's version of an export; None: it has to be registered.

    Of several versions of one export, return the newest active one; if none is active, the newest.

    Raises:
        NotFound: the version of a training job's export was deleted.
    """
    if export.registered:
        return registry.services.models.get(export.metadata.model_id)
    found = registry.stores.models.get_all(registry.stores.age_groups.models_of(export.name))
    return max(
        found, key=lambda one: (one["status"] == ModelStatus.ACTIVE, one["version_order"]), default=None
    )


def register(registry: OpenRegistry, export: Export) -> tuple[Model, bool]:
    """Register the export as a version with the network as its file.

    Concurrent calls for one export return the same version. So do calls in the day after one whose process
    was killed.

    Returns:
        The version, and whether this call created it.

    Raises:
        ModelValidationError: the network's file is missing or was changed.
    """
    require_source(export.folder, export)
    attempts = count()
    while True:
        # The version that an earlier key stands for was deleted, so the next one gets another key.
        key = f"{export.name} {export.manifest_sha256} {next(attempts)}"
        once = Once(key, _ROUTE, fingerprint=export.manifest_sha256)
        try:
            return _register(registry, export, once), not once.replayed
        except NotFound:
            if not once.replayed:
                raise


def _register(registry: OpenRegistry, export: Export, once: Once) -> Model:
    services, metadata = registry.services, export.metadata
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
        },
        once,
    )
    reference = str(model["_id"])
    try:
        if not model["files"]:
            services.files.store(
                services.files.writable(reference),
                _pieces(export.folder / SOURCE),
                NewFile.at(SOURCE),
                sha256=export.source_sha256,
            )
    except BaseException:
        if not once.replayed:
            discard(registry, export, model)
        raise
    return services.models.get(reference)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_CHUNK_BYTES):
            yield piece


def discard(registry: OpenRegistry, export: Export, model: Model) -> None:
    """Remove a version that ``register`` has created, unless an age group refers to it."""

    def work(session: Session) -> None:
        if model["_id"] in registry.stores.age_groups.models_of(export.name, session):
            raise _Deployed

    with suppress(_Deployed, NotFound):
        registry.services.models.delete(str(model["_id"]), purge=True, also=work)
