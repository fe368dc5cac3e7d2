"""What a deployment of each type is made of: its fields, its exports, and the formats that fit."""

from collections.abc import Collection, Mapping
from typing import cast

from exporters.base import NOT_EXECUTED, VERIFIED
from exporters.delivery.fitting import BOTH, CONTAINER, EDGE
from model_service.errors import Conflict, InvalidField, UnsupportedOption
from model_service.services.deployments.chosen import ChosenExports, member_of, verdict_of
from model_service.services.deployments.plans import DeploymentPlans, Plan, merged
from model_service.services.deployments.requests import SentConfig, SentDeployment
from model_service.services.deployments.routing_rules import MODELS, SPLIT
from model_service.services.exports.exports import ExportService
from model_service.states import DeploymentType
from model_service.storage.deployments.documents import (
    DEFAULT_CONFIG,
    DEFAULT_WEIGHT,
    Deployment,
    DeploymentConfig,
    Member,
)
from model_service.storage.exports.documents import ExportJob

DAY_S = 86_400
PLATFORMS = (*EDGE, "both")
_OF_EVERY_PACKAGE = ("expires_in_s",)
# Deployment type → the fields of its ``config``.
CONFIG_FIELDS: Mapping[DeploymentType, tuple[str, ...]] = {
    DeploymentType.PLATFORM_ENDPOINT: (*DEFAULT_CONFIG, "inference_framework"),
    DeploymentType.DOWNLOAD: _OF_EVERY_PACKAGE,
    DeploymentType.EDGE_PACKAGE: (*_OF_EVERY_PACKAGE, "target_platform", "includes_sample_code"),
    DeploymentType.CONTAINER: (*_OF_EVERY_PACKAGE, "inference_framework", "image_name", "image_tag"),
}
# Fields of a request that only an endpoint has.
_OF_ENDPOINTS = ("traffic", "models", "ensemble", "sticky_header", "shadow", "rollback")


def require_endpoint(deployment: Deployment, action: str) -> None:
    """Raises: Conflict: the deployment has no endpoint. ``action``: what cannot be done, as a participle."""
    kind = deployment["deployment_type"]
    if "delivery" in deployment:
        raise Conflict(
            f"A deployment of type {kind} has no endpoint and cannot be {action}: only one of type "
            f"{DeploymentType.PLATFORM_ENDPOINT} can.",
            deployment_type=kind,
        )


def check_config_fields(kind: DeploymentType, sent: SentConfig) -> None:
    """Raises: InvalidField: a field belongs to another deployment type."""
    for name in sent:
        if name not in CONFIG_FIELDS[kind]:
            fields = ", ".join(CONFIG_FIELDS[kind])
            raise InvalidField.of(
                f"config.{name}", f"not a field of deployments of type {kind}, which have {fields}"
            )


def notice_of(deployment: Deployment) -> str | None:
    """Return which exports of a package were not executed, and so not compared; None: all were verified."""
    offered = deployment.get("delivery", {}).get("offered")  # before the first revision is live: the newest
    exports = deployment["routing"]["members"] if offered is None else offered
    unproven = [export for export in exports if export.get("verdict") == NOT_EXECUTED]
    if not unproven:
        return None
    named = " and ".join(f"{export['export_job_id']} ({export['format']})" for export in unproven)
    return (
        f"Converted, not executed: this service cannot run the export {named}, so its results were not "
        "compared with those of the model."
    )


class Plans:
    """Validation of requests for deployments of every type."""

    def __init__(self, endpoints: DeploymentPlans, packages: "PackagePlans") -> None:
        self.endpoints = endpoints
        self._packages = packages

    def of(
        self,
        kind: DeploymentType,
        sent: SentDeployment,
        deployment_id: str,
        owner: str,
        *,
        base: Deployment | None = None,
        present: Deployment | None = None,
    ) -> tuple[Plan, DeploymentConfig]:
        """Return the routing and the complete configuration that a request describes.

        Args:
            base: the deployment that supplies the fields missing in ``sent``; None: the defaults.
            present: the deployment that is changed, as in ``DeploymentPlans.routing``.

        Raises:
            As ``DeploymentPlans`` or ``PackagePlans``.
        """
        if kind != DeploymentType.PLATFORM_ENDPOINT:
            return self._packages.plan(kind, sent, deployment_id, base=base, present=present)
        config = sent.get("config", {})
        check_config_fields(kind, config)
        if sent.get("export_job_ids") is not None:
            raise InvalidField.of("export_job_ids", "only for edge packages")
        plan = self.endpoints.routing(
            sent,
            base=base and base["routing"],
            present=present,
            override=sent.get("override_verification", False),
        )
        config = cast(SentConfig, {k: v for k, v in config.items() if k != "inference_framework"})
        return plan, self.endpoints.config(config, base["config"] if base else DEFAULT_CONFIG, owner)


class PackagePlans:
    """Validation of requests for deployments without an endpoint."""

    def __init__(self, exports: ExportService) -> None:
        self._exports = exports

    def plan(
        self,
        kind: DeploymentType,
        sent: SentDeployment,
        deployment_id: str,
        *,
        base: Deployment | None = None,
        present: Deployment | None = None,
    ) -> tuple[Plan, DeploymentConfig]:
        """Return the exports, as the members of a routing, and the complete configuration.

        Args:
            base: the deployment that supplies the fields missing in ``sent``; None: the defaults.
            present: the deployment that is changed, as in ``DeploymentPlans.routing``.

        Raises:
            MalformedId, NotFound, NotPermitted: as ``DeploymentPlans.routing``.
            NotVerified: an export is not completed, or its comparison failed.
            InvalidField: a field is missing, or belongs to another deployment type.
            UnsupportedOption: an export's format does not fit; ``details.allowed`` has the fitting formats.
        """
        self._check_fields(kind, sent)
        defaults = base["config"] if base is not None else _defaults(kind, deployment_id)
        config = merged(defaults, sent.get("config", {}))
        target = config.get("target_platform")
        if kind == DeploymentType.EDGE_PACKAGE and target is None:
            raise InvalidField.of("config.target_platform", f"required, one of {', '.join(PLATFORMS)}")
        chosen = ChosenExports(self._exports, present, accepted=(VERIFIED, NOT_EXECUTED))
        jobs = {name: chosen.job(job_id) for name, job_id in _named(kind, sent, target, base).items()}
        for name, job in jobs.items():
            _check_format(kind, config, name, job)
        mode = MODELS if len(jobs) > 1 else SPLIT
        members = [_member(name, job) for name, job in jobs.items()]
        return Plan(
            {"mode": mode, "members": members, "sticky_header": None, "shadow": None, "rollback": None}
        ), config

    @staticmethod
    def _check_fields(kind: DeploymentType, sent: SentDeployment) -> None:
        only = f"only for deployments of type {DeploymentType.PLATFORM_ENDPOINT}"
        for name in _OF_ENDPOINTS:
            if sent.get(name) is not None:
                raise InvalidField.of(name, only)
        if sent.get("override_verification"):
            raise InvalidField.of("override_verification", f"{only}; a failed export cannot be delivered")
        check_config_fields(kind, sent.get("config", {}))


def _defaults(kind: DeploymentType, deployment_id: str) -> DeploymentConfig:
    config: DeploymentConfig = {"expires_in_s": DAY_S}
    if kind == DeploymentType.EDGE_PACKAGE:
        config["includes_sample_code"] = True
    if kind == DeploymentType.CONTAINER:
        config |= {
            "inference_framework": "model-service",
            "image_name": f"exports/{deployment_id}",
            "image_tag": "latest",
        }
    return config


def _named(
    kind: DeploymentType, sent: SentDeployment, target: str | None, base: Deployment | None
) -> dict[str, str]:
    """Return the name of each member, and the id of its export job."""
    one, several = sent.get("export_job_id"), sent.get("export_job_ids")
    if one is not None and several is not None:
        raise InvalidField.of("export_job_ids", "give either this or export_job_id")
    present = {} if base is None else _ids(base["routing"]["members"])
    if target == "both":
        given = several if several is not None else present if one is None else {}
        _check_platforms(given, BOTH)
        return {name: given[name] for name in BOTH}
    if several is not None:
        if kind != DeploymentType.EDGE_PACKAGE:
            raise InvalidField.of("export_job_ids", "only for edge packages: give export_job_id")
        _check_platforms(several, (str(target),))
        one = several[str(target)]
    if one is None and len(present) == 1:
        (one,) = present.values()
    if one is None:
        raise InvalidField.of("export_job_id", "required")
    return {target or "package": one}


def _check_platforms(given: Mapping[str, str], platforms: Collection[str]) -> None:
    """Raises: InvalidField: a platform has no export, or an export has another platform."""
    for platform in platforms:
        if platform not in given:
            message = f"required: the export for {platform}; export_job_ids needs {' and '.join(platforms)}"
            raise InvalidField.of(f"export_job_ids.{platform}", message)
    for platform in given:
        if platform not in platforms:
            message = f"not a platform of this package, which has {' and '.join(platforms)}"
            raise InvalidField.of(f"export_job_ids.{platform}", message)


def _check_format(kind: DeploymentType, config: DeploymentConfig, name: str, job: ExportJob) -> None:
    if kind == DeploymentType.DOWNLOAD:
        return
    fitting = CONTAINER[config["inference_framework"]] if kind == DeploymentType.CONTAINER else EDGE[name]
    if job["export_format"] not in fitting:
        where = (
            f"a container with the server {config['inference_framework']}"
            if kind == DeploymentType.CONTAINER
            else f"the platform {name}"
        )
        raise UnsupportedOption(
            f"An export in the format {job['export_format']} cannot run on {where}; export the model to "
            f"{' or '.join(fitting)}.",
            allowed=list(fitting),
            export_job_id=job["_id"],
        )


def _ids(members: Collection[Member]) -> dict[str, str]:
    return {member["name"]: member["export_job_id"] for member in members}


def _member(name: str, job: ExportJob) -> Member:
    return {**member_of(job, name, DEFAULT_WEIGHT, None), "verdict": verdict_of(job) or ""}
