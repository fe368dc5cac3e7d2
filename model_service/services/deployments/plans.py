"""Validation of a deployment request: the routing between exports and the configuration, as stored."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import cast

from model_service.errors import InvalidField, NotPermitted
from model_service.services.deployments.chosen import ChosenExports, Unverified, exports_of, member_of
from model_service.services.deployments.requests import SOURCES, SentConfig, SentDeployment, SentMember
from model_service.services.deployments.routing_rules import (
    ENSEMBLE,
    MODELS,
    SPLIT,
    check_chain,
    check_routing,
)
from model_service.services.exports.exports import ExportService
from model_service.storage.access.users import Users
from model_service.storage.common.documents import D, Fields
from model_service.storage.deployments.documents import (
    DEFAULT_WEIGHT,
    AutoScaling,
    Deployment,
    DeploymentConfig,
    Member,
    Routing,
    Shadow,
)
from model_service.tiers import Tiers


@dataclass(frozen=True)
class Plan:
    """A validated routing. ``unverified``: the exports deployed by override, with status and verdict."""

    routing: Routing
    unverified: list[Unverified] = field(default_factory=list)

    @property
    def export_job_ids(self) -> list[str]:
        return exports_of(self.routing)


class DeploymentPlans:
    def __init__(self, exports: ExportService, users: Users, tiers: Tiers) -> None:
        self._exports = exports
        self._users = users
        self._tiers = tiers

    def config(self, sent: SentConfig, base: DeploymentConfig, owner: str) -> DeploymentConfig:
        """Return the complete configuration: ``base`` with the requested changes.

        Raises:
            InvalidField: min_replicas is above max_replicas, or initial_replicas is outside of them.
            NotPermitted: ``gpu_enabled`` is set, and the owner's tier has no GPUs.
        """
        config = merged(base, sent)
        scaling = config["auto_scaling"]
        if scaling["min_replicas"] > scaling["max_replicas"]:
            message = f"at most max_replicas, {scaling['max_replicas']}"
            raise InvalidField.of("config.auto_scaling.min_replicas", message)
        initial = scaling.get("initial_replicas", scaling["min_replicas"])
        if not scaling["min_replicas"] <= initial <= scaling["max_replicas"]:
            if "initial_replicas" in sent.get("auto_scaling", {}):
                message = f"from {scaling['min_replicas']} to {scaling['max_replicas']}, the other two"
                raise InvalidField.of("config.auto_scaling.initial_replicas", message)
            kept = {key: value for key, value in scaling.items() if key != "initial_replicas"}
            config["auto_scaling"] = cast(AutoScaling, kept)
        if config["gpu_enabled"] and not base["gpu_enabled"]:
            self._check_gpu(owner)
        return config

    def _check_gpu(self, owner: str) -> None:
        tier = self._tiers.of_user(owner, self._users.get(owner))
        if not self._tiers.of(tier).gpu_access:
            raise NotPermitted(
                f"The tier {tier!s} of {owner!r} includes no GPUs: remove gpu_enabled, or ask an "
                "administrator for another tier.",
                tier=tier,
                field="config.gpu_enabled",
            )

    def routing(
        self,
        sent: SentDeployment,
        *,
        base: Routing | None = None,
        present: Deployment | None = None,
        override: bool = False,
    ) -> Plan:
        """Return the routing that the API fields in ``sent`` describe.

        Args:
            base: the routing that supplies the fields missing in ``sent``; None: the defaults.
            present: the deployment that is changed. Its exports are accepted without another verification
                check, and new exports must be in its namespace.
            override: also accept exports that are not verified, as an administrator may.

        Raises:
            MalformedId, NotFound: an export job's id is malformed, or the job does not exist.
            NotPermitted: the caller may not deploy its model, or may not override its verification.
            NotVerified: an export is not completed or not verified.
            InvalidField: not exactly one source is given, or the fields contradict each other.
        """
        chosen = ChosenExports(self._exports, present, override=override)
        mode, members = self._members(sent, base, chosen)
        names = {member["name"] for member in members}
        routing: Routing = {
            "mode": mode,
            "members": members,
            "sticky_header": base["sticky_header"] if base else None,
            "shadow": self._shadow(sent, base, names, chosen),
            "rollback": base["rollback"] if base else None,
        }
        if "sticky_header" in sent:
            routing["sticky_header"] = sent["sticky_header"]
        if "rollback" in sent:
            routing["rollback"] = sent["rollback"]
        check_routing(routing)
        return Plan(routing, chosen.unverified)

    def _members(
        self, sent: SentDeployment, base: Routing | None, chosen: ChosenExports
    ) -> tuple[str, list[Member]]:
        given = [source for source in SOURCES if sent.get(source) is not None]
        if len(given) > 1 or (not given and base is None):
            message = f"exactly one of {', '.join(SOURCES)} must be given"
            raise InvalidField.of(given[-1] if given else SOURCES[0], message)
        if not given:
            assert base is not None
            return base["mode"], base["members"]
        if (job_id := sent.get("export_job_id")) is not None:
            return SPLIT, self._named([{"export_job_id": job_id}], chosen)
        if (traffic := sent.get("traffic")) is not None:
            return SPLIT, self._named(traffic, chosen)
        if (models := sent.get("models")) is not None:
            named: list[SentMember] = [{"name": name, "export_job_id": each} for name, each in models.items()]
            return MODELS, self._named(named, chosen)
        members = self._named(sent.get("ensemble") or [], chosen)
        check_chain(members, [chosen.job(member["export_job_id"]) for member in members])
        return ENSEMBLE, members

    def _named(self, wanted: Sequence[SentMember], chosen: ChosenExports) -> list[Member]:
        """Return the members, each with its given name or, without one, its version's, made unique."""
        taken = [name for each in wanted if (name := each.get("name"))]
        twice = [name for name in taken if taken.count(name) > 1]
        if twice:
            raise InvalidField.of("name", f"two members have the name {twice[0]!r}")
        members = []
        for each in wanted:
            job = chosen.job(each["export_job_id"])
            name = each.get("name") or _unique(job["model_version"], taken)
            taken.append(name)
            members.append(member_of(job, name, each.get("weight", DEFAULT_WEIGHT), each.get("inputs")))
        return members

    def _shadow(
        self, sent: SentDeployment, base: Routing | None, names: Collection[str], chosen: ChosenExports
    ) -> Shadow | None:
        if "shadow" not in sent:
            shadow = base["shadow"] if base else None
            return shadow and {**shadow, "name": _unique(shadow["model_version"], names)}
        wanted = sent["shadow"]
        if wanted is None:
            return None
        job = chosen.job(wanted["export_job_id"])
        name = _unique(job["model_version"], names)
        return {**member_of(job, name, DEFAULT_WEIGHT, None), "share": wanted["share"]}


def _unique(name: str, taken: Collection[str]) -> str:
    """Return the first free name of ``v1.0``, ``v1.0-2``, ``v1.0-3`` and so on."""
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name}-{number}"
    return found


def merged(base: D, changes: Fields) -> D:
    """Return ``base`` with the changes merged deeply: keys that an object does not name are kept."""
    result = dict(base)
    for key, value in changes.items():
        present = base.get(key)
        if isinstance(value, dict) and isinstance(present, dict):
            result[key] = merged(present, value)
        else:
            result[key] = value
    return cast(D, result)
