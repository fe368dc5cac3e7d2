"""The rules of an alias, and whether a version meets them."""

from dataclasses import dataclass

from typing_extensions import TypedDict

from exporters import metrics
from exporters.errors import UnsupportedOption
from model_service.actor import ANONYMOUS, Permission, actor, may_read, namespace_of, require
from model_service.errors import Conflict, GateRefused, InvalidField, NotFound
from model_service.services.common.references import check_alias
from model_service.services.exports.requests import FORMATS, source_of
from model_service.services.gates.conditions import Condition, Evidence, check
from model_service.services.models.models import ModelService
from model_service.services.models.origins import Origins
from model_service.storage.common.db import Session
from model_service.storage.common.documents import Fields
from model_service.storage.gates.documents import ExportRule, Gate, MetricRule, Rules
from model_service.storage.models.documents import Model
from model_service.storage.stores import Stores


class SentMetricRule(TypedDict):
    """``dataset_id`` is an id or a reference."""

    dataset_id: str
    metric: str
    min: float | None
    max: float | None
    of: str


class SentRules(TypedDict):
    verified_export: ExportRule | None
    metrics: list[SentMetricRule]
    max_p99_ms: float | None
    approvals: int


@dataclass(frozen=True)
class Checked:
    """``gate`` None: the alias has no gate, so nothing is required."""

    model: Model
    alias: str
    gate: Gate | None
    conditions: list[Condition]

    @property
    def passed(self) -> bool:
        return all(condition["passed"] for condition in self.conditions)


class GateService:
    def __init__(self, stores: Stores, models: ModelService, origins: Origins) -> None:
        self._stores = stores
        self._database = stores.database
        self._gates = stores.gates
        self._models = models
        self._origins = origins

    def of_name(self, name: str) -> list[Gate]:
        """Return the gates of a name, by alias; empty if the caller may not read it."""
        return self._gates.of_name(name) if may_read(name) else []

    def set(self, name: str, alias: str, sent: SentRules) -> Gate:
        """Store the rules of an alias in place of those that it has. A version that has it keeps it.

        Raises:
            NotPermitted: the caller is not an administrator of the namespace.
            InvalidField: a malformed alias, no rule at all, an unknown format, or a metric without one bound.
            NotFound: a dataset does not exist.
            Conflict: approvals are required, but authentication is off.
        """
        check_alias(alias)
        require(Permission.ADMIN, name)
        rules = self._resolved(sent)
        if rules["approvals"]:
            require_users("A gate with approvals")
        namespace = namespace_of(name)
        return self._database.transaction(
            lambda session: self._gates.put(name, namespace, alias, rules, session)
        )

    def remove(self, name: str, alias: str) -> None:
        """Remove the gate. Raises: NotPermitted: as ``set``. NotFound: the alias has none."""
        require(Permission.ADMIN, name)
        if not self._database.transaction(lambda session: self._gates.remove(name, alias, session)):
            raise NotFound("gate", f"{name}@{alias}")

    def check(self, reference: str, alias: str) -> Checked:
        """Compare a version with the gate, as if the caller moved the alias.

        Raises:
            MalformedId, NotFound. InvalidField: the alias is malformed.
        """
        check_alias(alias)
        return self._check(self._models.get(reference), alias, None)

    def require_passed(self, model: Model, alias: str, session: Session) -> Fields:
        """Check that the caller may move the alias to the version. Returns what the audit log keeps of it.

        Raises:
            GateRefused: ``details.missing`` lists the conditions that are not met.
        """
        checked = self._check(model, alias, session)
        if checked.gate is None:
            return {}
        if not checked.passed:
            missing = [condition for condition in checked.conditions if not condition["passed"]]
            raise GateRefused(model["name"], model["version"], alias, missing)
        return {"gate": checked.conditions}

    def _check(self, model: Model, alias: str, session: Session | None) -> Checked:
        gate = self._gates.get(model["name"], alias, session)
        if gate is None:
            return Checked(model, alias, None, [])
        return Checked(model, alias, gate, check(gate["rules"], self._evidence(model, gate, session)))

    def _evidence(self, model: Model, gate: Gate, session: Session | None) -> Evidence:
        stores, model_id = self._stores, model["_id"]
        dataset_ids = {rule["dataset_id"] for rule in gate["rules"]["metrics"]}
        exports = stores.exports.verified_of(model_id, session)
        find = stores.evaluations.completed_of
        of_exports = [job["_id"] for job in exports]
        return Evidence(
            source_checksum=checksum_of(model),
            exports=exports,
            evaluations=[
                *find(model_id, dataset_ids, [None], session),
                *find(model_id, dataset_ids, of_exports, session),
            ],
            datasets=stores.datasets.described(dataset_ids, session),
            approvals=stores.approvals.of_present_users(model_id, gate["alias"], session),
            mover=None if actor().name == ANONYMOUS.name else actor().name,
        )

    def _resolved(self, sent: SentRules) -> Rules:
        export = sent["verified_export"]
        if export is not None and export["format"] not in (None, *FORMATS):
            raise InvalidField.of("verified_export.format", f"one of {', '.join(FORMATS)}")
        if not (export or sent["metrics"] or sent["approvals"] or sent["max_p99_ms"] is not None):
            raise InvalidField.of(
                "rules", "at least one of verified_export, metrics, max_p99_ms and approvals"
            )
        return {
            "verified_export": export,
            "metrics": [self._metric(number, rule) for number, rule in enumerate(sent["metrics"])],
            "max_p99_ms": sent["max_p99_ms"],
            "approvals": sent["approvals"],
        }

    def _metric(self, number: int, sent: SentMetricRule) -> MetricRule:
        if (sent["min"] is None) == (sent["max"] is None):
            raise InvalidField.of(f"metrics.{number}", "exactly one of min and max")
        try:
            (metric,) = metrics.check([sent["metric"]], option=f"metrics.{number}.metric")
        except UnsupportedOption as refusal:
            raise InvalidField.of(f"metrics.{number}.metric", refusal.message.rstrip(".")) from None
        dataset = self._origins.dataset(sent["dataset_id"])
        return {
            "dataset_id": dataset["_id"],
            "dataset": f"{dataset['name']}/{dataset['version']}",
            "metric": metric,
            "min": sent["min"],
            "max": sent["max"],
            "of": sent["of"],
        }


def checksum_of(model: Model) -> str | None:
    """Return the checksum of the version's files, as exports and evaluations store it."""
    return None if model["file_metadata"] is None else source_of(model)["checksum"]


def require_users(what: str) -> None:
    """Check that the service knows its callers. Raises: Conflict: authentication is off."""
    if actor().name == ANONYMOUS.name:
        raise Conflict(f"{what} needs users, and authentication is off: set ENABLE_AUTH=true.")
