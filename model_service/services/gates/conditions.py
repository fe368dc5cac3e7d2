"""Compares the rules of a gate with what is stored about a version."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from typing_extensions import TypedDict

from model_service.storage.common.documents import Fields, StoredId
from model_service.storage.evaluations.documents import Evaluation
from model_service.storage.exports.documents import ExportJob
from model_service.storage.gates.documents import Approval, ExportRule, MetricRule, Rules


class Condition(TypedDict):
    """``required`` and ``found`` are sentences; ``found`` of a missing condition says what to do."""

    condition: str  # verified_export, validated_export, metric, p99 or approvals
    passed: bool
    required: str
    found: str


@dataclass(frozen=True)
class Evidence:
    """What is stored about one version. Exports and evaluations are ended ones, newest first.

    Args:
        source_checksum: of the version's files now; what was made from other files does not count.
        exports: completed and verified.
        evaluations: completed, on all rows.
        datasets: each dataset's ``inspected_fields`` now; a deleted dataset is missing.
        approvals: of users who still exist.
        mover: the user who wants to move the alias; None: the caller is not authenticated as a user.
    """

    source_checksum: str | None
    exports: Sequence[ExportJob]
    evaluations: Sequence[Evaluation]
    datasets: Mapping[StoredId, Fields]
    approvals: Sequence[Approval]
    mover: str | None


def check(rules: Rules, evidence: Evidence) -> list[Condition]:
    """Return every condition of the rules. One export must meet all conditions on an export."""
    found = [
        _metric(rule, evidence, None, "the version") for rule in rules["metrics"] if rule["of"] == "model"
    ]
    wanted = _export_rule(rules)
    if wanted is not None:
        measured = any(metric["of"] == "export" for metric in rules["metrics"])
        fitting = [job for job in evidence.exports if _fits(job, wanted, evidence.source_checksum, measured)]
        tried = [_of_export(rules, wanted, evidence, job) for job in fitting]
        found += (
            max(tried, key=lambda conditions: sum(each["passed"] for each in conditions))
            if tried
            else _of_export(rules, wanted, evidence, None)
        )
    if rules["approvals"]:
        found.append(_approvals(rules["approvals"], evidence))
    return found


def _export_rule(rules: Rules) -> ExportRule | None:
    """Return the rule for the export; a bound on an export implies one of any format."""
    implied = rules["max_p99_ms"] is not None or any(rule["of"] == "export" for rule in rules["metrics"])
    return rules["verified_export"] or ({"format": None, "validated": False} if implied else None)


def _fits(job: ExportJob, rule: ExportRule, checksum: str | None, measured: bool) -> bool:
    """Return whether the export counts. A pruned or distilled one was only compared with that network.

    A validation compares a distilled one with the student before its training, which proves nothing.

    Args:
        measured: whether the gate bounds a metric of the export.
    """
    changes = job.get("optimization_config") or {}
    return (
        job["source"]["checksum"] == checksum
        and rule["format"] in (None, job["export_format"])
        and ("pruning" not in changes or _why_not_validated(job) is None)
        and ("distillation" not in changes or measured)
    )


def _of_export(rules: Rules, rule: ExportRule, evidence: Evidence, job: ExportJob | None) -> list[Condition]:
    name = "no export" if job is None else f"export {job['_id']} ({job['export_format']})"
    kind = "verified" if rule["format"] is None else f"verified {rule['format']}"
    found = (
        name
        if job
        else f"none of the version's present files; export it {_to(rule)}and wait until it is verified"
    )
    conditions = [_condition("verified_export", job is not None, f"a {kind} export", found)]
    if rule["validated"]:
        conditions.append(_validated(job, name))
    for metric in rules["metrics"]:
        if metric["of"] == "export":
            conditions.append(_metric(metric, evidence, job, name))
    if rules["max_p99_ms"] is not None:
        conditions.append(_p99(rules["max_p99_ms"], job, name))
    return conditions


def _to(rule: ExportRule) -> str:
    return "" if rule["format"] is None else f"to {rule['format']} "


def _validated(job: ExportJob | None, name: str) -> Condition:
    required = "an export that passed its validation on all rows of a dataset"
    if job is None:
        return _condition("validated_export", False, required, "there is no export to validate")
    reason = _why_not_validated(job)
    found = f"{name}: {reason}" if reason else f"{name} passed on {_validation_data(job)}"
    return _condition("validated_export", reason is None, required, found)


def _why_not_validated(job: ExportJob) -> str | None:
    """Return why the export has passed no validation; None if it has passed one."""
    metrics = cast("Mapping[str, object] | None", job.get("validation_metrics"))
    config = job.get("validation_config") or {}
    if metrics is None:
        return "it was not validated; export again with validation_config and a fail_threshold"
    if metrics.get("passed") is not True:
        return str(metrics.get("reason") or "its validation did not pass")
    if not config.get("fail_threshold"):
        return "its validation had no fail_threshold; export again with one"
    if config.get("samples") is not None:
        return "its validation used only some rows; export again without samples"
    return None


def _validation_data(job: ExportJob) -> str:
    named = [
        f"{data['name']}/{data['version']}"
        for data in job.get("datasets", ())
        if data["role"] == "validation"
    ]
    return named[0] if named else "a dataset"


def _metric(rule: MetricRule, evidence: Evidence, job: ExportJob | None, of: str) -> Condition:
    bound = f"≥ {rule['min']:g}" if rule["min"] is not None else f"≤ {rule['max']:g}"
    on = "version" if rule["of"] == "model" else "export"
    required = f"{rule['metric']} {bound} on {rule['dataset']}, measured on the {on}"
    if rule["of"] == "export" and job is None:
        return _condition("metric", False, required, "there is no export to evaluate")
    evaluation, why_not = _newest(rule, evidence, job)
    if evaluation is None:
        return _condition("metric", False, required, f"{of} {why_not}")
    value = (evaluation["results"] or {})[rule["metric"]]["value"]
    loaded = (
        f", with the source_config {json.dumps(config)}" if (config := evaluation["source_config"]) else ""
    )
    low, high = rule["min"], rule["max"]
    passed = (low is None or value >= low) and (high is None or value <= high)  # NaN passes neither
    return _condition("metric", passed, required, f"{value:.6g} in evaluation {evaluation['_id']}{loaded}")


def _newest(rule: MetricRule, evidence: Evidence, job: ExportJob | None) -> tuple[Evaluation | None, str]:
    """Return the newest evaluation that counts, or the reason why there is none."""
    job_id = job["_id"] if job is not None and rule["of"] == "export" else None
    on = [
        evaluation
        for evaluation in evidence.evaluations
        if evaluation["dataset_id"] == rule["dataset_id"] and evaluation["export_job_id"] == job_id
    ]
    if rule["dataset_id"] not in evidence.datasets:
        return None, "cannot be evaluated: the dataset or its file was deleted; set the gate with another one"
    if not on:
        return None, "was not evaluated on all its rows; run an evaluation without samples"
    current = [
        evaluation
        for evaluation in on
        if (job_id is not None or evaluation["source_checksum"] == evidence.source_checksum)
        and _described(evaluation) == evidence.datasets[rule["dataset_id"]]
    ]
    if not current:
        return None, "was evaluated before its files or the dataset changed; run another evaluation"
    measured = [each for each in current if rule["metric"] in (each["results"] or {})]
    if not measured:
        return None, f"was evaluated without {rule['metric']}; run another evaluation with it"
    return measured[0], ""


def _described(evaluation: Evaluation) -> Fields:
    """Return the evaluated data in the form of ``inspected_fields``."""
    (data,) = evaluation["datasets"]
    return {name: data[name] for name in ("checksum", "format", "schema", "task_type")}


def _p99(most: float, job: ExportJob | None, name: str) -> Condition:
    required = f"a p99 latency ≤ {most:g} ms"
    performance = cast("dict[str, object] | None", job.get("performance")) if job else None
    p99 = (performance or {}).get("p99_ms")
    if not isinstance(p99, int | float):
        return _condition("p99", False, required, f"{name} has no measured p99; export again")
    return _condition("p99", p99 <= most, required, f"{p99:.4g} ms of {name}")


def _approvals(least: int, evidence: Evidence) -> Condition:
    required = f"{least} approvals by users other than the one who moves the alias"
    if evidence.mover is None:
        found = "authentication is off, so nobody can approve; set ENABLE_AUTH=true"
        return _condition("approvals", False, required, found)
    given = [each for each in evidence.approvals if each["source_checksum"] == evidence.source_checksum]
    counted = sorted({each["approved_by"] for each in given} - {evidence.mover})
    found = f"{len(counted)}: {', '.join(counted)}" if counted else "none"
    if len(given) < len(evidence.approvals):
        found += "; others approved before its files changed"
    return _condition("approvals", len(counted) >= least, required, found)


def _condition(name: str, passed: bool, required: str, found: str) -> Condition:
    return {"condition": name, "passed": passed, "required": required, "found": found}
