"""``ModelDeploymentService``: which export serves which ages of a model, in which environment."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from model_service.actor import actor, namespace_of
from model_service.errors import Conflict, NotFound
from model_service.model_deployment_service.errors import ModelDeploymentError, raised_as
from model_service.model_deployment_service.export_folder import Export, ExportFolder
from model_service.model_deployment_service.records import (
    DeployedModel,
    DeploymentResult,
    ModelDeploymentConfig,
    age_range,
)
from model_service.model_deployment_service.registration import discard, register, registered_before
from model_service.model_deployment_service.registry import OpenRegistry, Registries, export_dir_of
from model_service.model_deployment_service.validator import validate
from model_service.states import AgeGroupStatus
from model_service.storage.age_groups.documents import AgeGroup
from model_service.storage.common.db import Session as Transaction
from model_service.storage.common.db import now
from model_service.storage.models.documents import Model
from model_service.storage.models.hot_models import settle

if TYPE_CHECKING:
    from model_service.model_deployment_service.interfaces import Session


class _Changed(Exception):
    """Another process deployed or undeployed an age group meanwhile: look again."""


class ModelDeploymentService:
    """Service for deploying models to production environment.

    A deployed age group is a range of ages of one model, by its name in the registry, in one environment. The
    environment is an alias in the registry: it is on the version that was deployed there last.

    Args:
        export_dir: the folder of exports; by default ``exported-models`` in MODEL_SERVICE_HOME.
        db: the database for calls whose ``db`` is None; by default that of MONGODB_URL.
    """

    def __init__(self, export_dir: str | Path | None = None, db: Session | None = None) -> None:
        self._export_dir = export_dir
        self._registries = Registries(db)

    def deploy_model(self, deployment_config: ModelDeploymentConfig, db: Session) -> DeploymentResult:
        """Deploy model to production environment.

        An export without a training job is registered as a version of its model, with the network as its
        file, when it is deployed for the first time. Of concurrent deployments of overlapping age groups
        exactly one succeeds, unless they replace each other.

        Args:
            deployment_config: deployment configuration.
            db: the registry's database.

        Returns:
            The deployed age group; see ``DeploymentResult``.

        Raises:
            ModelValidationError, ModelCompatibilityError: as ``ModelValidator``.
            ModelDeploymentError: the path is not that of an export in the export folder; an age group that is
                deployed overlaps and ``replace_existing`` is False; the registry refuses the alias; or an
                export that is replaced cannot be backed up. Nothing was changed in the environment.
        """
        config = deployment_config
        low, high = age_range(config.age_group_min, config.age_group_max, ModelDeploymentError)
        with raised_as(ModelDeploymentError):
            folder = ExportFolder(export_dir_of(self._export_dir))
            export = folder.at(config.model_export_path)
            registry = self._registries.of(db)
            validation = None
            if config.validate_before_deployment:
                validation = validate(export, export.metadata)
            deployed = _deploy(registry, folder, export, config, (low, high))
            settle()
        return {
            **_entry(deployed.group),
            "replaced": deployed.replaced,
            "backups": deployed.backups,
            "validation": validation,
        }

    def list_deployed_models(self, db: Session) -> list[DeployedModel]:
        """List all deployed models, in the order of their deployment.

        Raises:
            ModelDeploymentError: MongoDB cannot be used.
        """
        with raised_as(ModelDeploymentError):
            return [_entry(group) for group in self._registries.of(db).stores.age_groups.active()]

    def undeploy_model(self, model_id: int, db: Session) -> bool:
        """Undeploy (deactivate) a model. Its version and its export stay.

        The environment's alias moves to the version that was deployed there before, and still is. Versions
        that were deleted or archived, or do not pass the alias' gate, are skipped. The alias is removed if no
        version is left.

        Args:
            model_id: of an entry of ``list_deployed_models``.
            db: the registry's database.

        Returns:
            Whether it was deployed.

        Raises:
            ModelDeploymentError: MongoDB cannot be used, or the version cannot be changed.
        """
        with raised_as(ModelDeploymentError):
            registry = self._registries.of(db)
            while True:
                group = registry.stores.age_groups.get(model_id)
                if group is None or group["status"] != AgeGroupStatus.ACTIVE:
                    return False
                try:
                    _undeploy(registry, group)
                    settle()
                    return True
                except _Changed:
                    continue


class _Deployed(NamedTuple):
    """``replaced``: ids of the age groups that ended; ``backups``: paths of the copies of their exports."""

    group: AgeGroup
    replaced: list[int]
    backups: list[str]


def _deploy(
    registry: OpenRegistry,
    folder: ExportFolder,
    export: Export,
    config: ModelDeploymentConfig,
    ages: tuple[float, float],
) -> _Deployed:
    """Register the export if no version has it, and store the age group.

    It looks again if another process changes the environment meanwhile. A version that it registered is
    removed if the deployment fails.
    """
    model = registered_before(registry, export)
    name = export.model_name if model is None else model["name"]
    environment = config.deployment_environment
    created: Model | None = None
    try:
        while True:
            existing = registry.stores.age_groups.overlapping(name, environment, *ages)
            _require_replaceable(existing, config)
            backups = _back_up(folder, existing) if config.backup_existing else {}
            if model is None:
                model, is_new = register(registry, export)
                created = model if is_new else None
            group = _new_group(export, model, environment, *ages)
            replaced = [one["_id"] for one in existing]
            try:
                _insert(registry, group, set(replaced), backups)
                return _Deployed(group, replaced, list(backups.values()))
            except _Changed:
                continue
            except NotFound:
                if export.registered or registry.stores.models.get(model["_id"]) is not None:
                    raise
                model = created = None  # deleted since, perhaps by the deployment that created it
    except BaseException:
        if created is not None:
            discard(registry, export, created)
        raise


def _require_replaceable(existing: list[AgeGroup], config: ModelDeploymentConfig) -> None:
    if existing and not config.replace_existing:
        shown = ", ".join(
            f"{one['age_group_min']:g} to {one['age_group_max']:g} (model_id {one['_id']})"
            for one in existing[:5]
        )
        raise ModelDeploymentError(
            f"The age group {config.age_group_min:g} to {config.age_group_max:g} of "
            f"{existing[0]['model_name']} overlaps with {shown} in {config.deployment_environment}: set "
            "replace_existing, or undeploy first."
        )


def _back_up(folder: ExportFolder, existing: list[AgeGroup]) -> dict[int, str]:
    """Copy the exports of age groups. Returns integer id → ``model_export_path`` of the copy."""
    found = {}
    for group in existing:
        try:
            found[group["_id"]] = folder.back_up(folder.at(group["model_export_path"])).path
        except ModelDeploymentError as exc:
            raise ModelDeploymentError(
                f"The export of the age group with model_id {group['_id']} cannot be backed up: {exc} Set "
                "backup_existing to False to replace it without a backup."
            ) from exc
    return found


def _insert(registry: OpenRegistry, group: AgeGroup, replaced: set[int], backups: dict[int, str]) -> None:
    """Store the age group, end those that it replaces, and move the alias, in one transaction.

    Raises:
        _Changed: other age groups overlap than ``replaced``.
    """
    stores = registry.stores

    def work(session: Transaction) -> None:
        found = stores.age_groups.overlapping(
            group["model_name"],
            group["environment"],
            group["age_group_min"],
            group["age_group_max"],
            session,
        )
        if {one["_id"] for one in found} != replaced:
            raise _Changed
        stores.age_groups.insert(group, session)
        for one in found:
            stores.age_groups.replace(one, group["_id"], backups.get(one["_id"]), session)
        stores.audit.record(
            "deployed",
            "age_group",
            group["_id"],
            session=session,
            name=group["model_name"],
            details={"environment": group["environment"], "replaced": sorted(replaced)},
        )

    registry.services.aliases.set(str(group["model_id"]), group["environment"], also=work)


def _new_group(export: Export, model: Model, environment: str, low: float, high: float) -> AgeGroup:
    return {
        "_id": 0,  # set when it is stored
        "model_name": model["name"],
        "namespace": namespace_of(model["name"]),
        "model_id": model["_id"],
        "model_version": model["version"],
        "environment": environment,
        "age_group_min": low,
        "age_group_max": high,
        "status": AgeGroupStatus.ACTIVE,
        "exported_as": export.name,
        "model_export_path": export.path,
        "export_metadata": export.metadata.to_dict(),
        "deployed_at": now(),
        "deployed_by": actor().name,
    }


def _undeploy(registry: OpenRegistry, group: AgeGroup) -> None:
    """End the age group and move or remove the alias, in one transaction.

    Raises:
        _Changed: another process deployed or undeployed an age group of the model there.
    """
    stores, aliases = registry.stores, registry.services.aliases
    name, environment, ended = group["model_name"], group["environment"], group["_id"]
    rest = [one for one in stores.age_groups.of(name, environment) if one["_id"] != ended]

    def work(session: Transaction) -> None:
        if not stores.age_groups.undeploy(ended, session):
            raise _Changed
        remaining = stores.age_groups.of(name, environment, session)
        if {one["_id"] for one in remaining} != {one["_id"] for one in rest}:
            raise _Changed
        stores.audit.record(
            "undeployed",
            "age_group",
            ended,
            session=session,
            name=name,
            details={"environment": environment},
        )

    holder = stores.models.find({"name": name, "aliases": environment})
    if holder is None or holder["_id"] != group["model_id"]:
        stores.database.transaction(work)  # somebody moved the alias, which stays there
        return
    for model_id in dict.fromkeys(one["model_id"] for one in reversed(rest)):
        with suppress(NotFound, Conflict):  # deleted, archived, or refused by the gate
            aliases.set(str(model_id), environment, also=work)
            return
    aliases.remove(str(group["model_id"]), environment, also=work)


def _entry(group: AgeGroup) -> DeployedModel:
    return {
        "model_id": group["_id"],
        "registry_model_id": str(group["model_id"]),
        "model_name": group["model_name"],
        "model_version": group["model_version"],
        "deployment_environment": group["environment"],
        "age_group_min": group["age_group_min"],
        "age_group_max": group["age_group_max"],
        "is_active": group["status"] == AgeGroupStatus.ACTIVE,
        "model_export_path": group["model_export_path"],
        "export_metadata": dict(group["export_metadata"]),
        "deployed_at": group["deployed_at"].isoformat(),
    }
