"""The optimisation steps of one export: before the conversion, and after the comparison with the source."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import imports, registry, runners
from ..base import FAILED, Artefact, Case, Progress, Source
from ..datasets.base import Dataset
from ..datasets.schema import DatasetFile
from ..errors import ConversionFailed
from ..proof import data, measure, refusal
from ..request import ExportRequest
from ..stages.compare import Compared, Opener, fidelity_of
from ..validating import Validator
from . import config, teachers
from .base import PRUNING, ArtefactTechnique, SourceTechnique, Step, Training
from .judgement import METRICS, Judge
from .states import States
from .training import Trainings

_INSTALL = "pip install 'model-service[formats]'."
_BY_COMPARISON = {"judged_on": "the inputs of the comparison"}


def complete(request: ExportRequest) -> ExportRequest:
    """Return the request with a complete configuration, and the options that it sets.

    Raises:
        UnsupportedOption: the configuration is invalid for the format.
    """
    checked = config.check(request.format, request.optimization, request.options)
    options = config.merged(request.format, checked, request.options)
    return replace(request, optimization=checked, options=options)


def change_source(
    source: Source, request: ExportRequest, progress: Progress
) -> tuple[Source, dict[str, Any]]:
    """Return the source after the techniques that change it, and what each one changed: pruning, training.

    Raises:
        MissingDependency: a module that one of the request's techniques imports cannot be imported.
        InvalidDataset: the training dataset does not fit the model.
        OptimizationFailed, UnsupportedOption: as ``SourceTechnique.change``.
    """
    changes = {}
    chosen = config.chosen(request.optimization or {})
    run = _trainings(request, progress)
    for technique, _ in chosen:
        for module in technique.needs(request.format):
            imports.require(module, f"{technique.method} {technique.section} needs it: {_INSTALL}")
    for technique, fields in chosen:
        if isinstance(technique, SourceTechnique):
            training = None
            if run is not None and technique.trainings(fields):
                training = _training(request, source, fields, run)
            source, changes[technique.reported_as] = technique.change(source, fields, training)
    return source, changes


def _trainings(request: ExportRequest, progress: Progress) -> Trainings | None:
    """Return the trainings of the request's techniques; None if nothing is trained."""
    given = request.optimization or {}
    epochs = sum(
        technique.trainings(fields) * fields["epochs"]
        for technique, fields in config.chosen(given)
        if isinstance(technique, SourceTechnique) and technique.trainings(fields)
    )
    if not epochs:
        return None
    decisive = {
        "source": _digests(request.source),
        "data": {**given[config.TRAINING], "path": _digests(Path(given[config.TRAINING]["path"]))},
        "recipe": config.recipe(given),
        "preprocessing": request.preprocessing,
    }
    if config.TEACHER in given:
        decisive["teacher"] = _digests(teachers.path_of(given[config.TEACHER]))
    states = States(request.training_dir, decisive)
    pruned = given.get(PRUNING, {}).get("method")
    return Trainings(states, epochs, progress, keep_zeros=pruned == "unstructured")


def _training(request: ExportRequest, source: Source, fields: Mapping[str, Any], run: Trainings) -> Training:
    dataset = _dataset(request, source, config.TRAINING, labelled=config.learns_labels(fields))
    assert dataset is not None  # ``config.check`` demands one
    teacher = None
    if "teacher_model_id" in fields:
        teacher = teachers.load(request, fields, source, dataset.file)
    return Training(dataset, teacher, run)


def _digests(path: Path) -> list[str]:
    return [_digest(file) for file in sorted(_files(path))]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _dataset(request: ExportRequest, source: Source, role: str, *, labelled: bool) -> Dataset | None:
    """Return the dataset with that role; None if the request has none."""
    given = (request.optimization or {}).get(role)
    if given is None:
        return None
    return data.for_source(
        DatasetFile.from_json(given, role),
        source,
        task_type=request.model.get("task_type"),
        preprocessing=request.preprocessing,
        classes=request.classes,
        labelled=labelled,
    )


def judge(request: ExportRequest, source: Source, validator: Validator | None) -> Judge | None:
    """Return the judge of an optimised artefact; None if the request has no dataset.

    It judges on the rows of the validation, if there is one, otherwise on those of the calibration.

    Args:
        source: after the techniques that change it, as the artefact presents it.

    Raises:
        InvalidDataset: the dataset does not fit the model.
    """
    calibration = _dataset(request, source, config.CALIBRATION, labelled=False)
    judged = calibration if validator is None else validator.dataset
    if judged is None:
        return None
    model = data.facts_of(source, request.postprocessing, request.classes or judged.classes)
    thresholds = {} if validator is None else dict(validator.thresholds)
    goal = (request.optimization or {}).get("goal")
    if goal is not None:
        most: float = goal["max_accuracy_drop"]
        thresholds |= {name: min(most, thresholds.get(name, most)) for name in METRICS}
    return Judge(source.reference, calibration, judged, model, thresholds)


def change_artefact(
    request: ExportRequest,
    source: Source,
    all_cases: list[Case],
    compared: Compared,
    judge: Judge | None,
    folder: Path,
    open_runner: Opener,
) -> tuple[Compared, dict[str, Any]]:
    """Return the artefact after the technique that changes it, and what was changed.

    The result is judged on the judge's data. Without a judge it is compared with the source on ``all_cases``,
    with the tolerance of its precision. ``compared`` itself is returned if there is no such technique.

    Raises:
        OptimizationFailed: as ``ArtefactTechnique.apply``.
        ConversionFailed: the result cannot be loaded, or has other inputs or outputs.
    """
    found = [
        (technique, fields)
        for technique, fields in config.chosen(request.optimization or {})
        if isinstance(technique, ArtefactTechnique) and request.format in technique.steps
    ]
    if not found:
        return compared, {}
    ((technique, fields),) = found
    options = registry.specification(request.format).validate(request.options)
    folder.mkdir()
    step = Step(compared.path, compared.artefact, source, all_cases[0], fields, options, judge, folder)
    artefact, report = technique.apply(request.format, step)
    runner, why_not = open_runner(request.format, folder / artefact.files[0])
    before = compared.runner
    if before is None or runner is None:
        report["float"] = {"size_bytes": compared.size_bytes}
        unjudged = {"judged_on": None, "reason": compared.fidelity["reason"]}
        fidelity = {**compared.fidelity, "optimization": unjudged}
        changed = Compared(folder, artefact, None, fidelity, why_not)
        report["optimized"] = {"size_bytes": changed.size_bytes}
        return changed, report
    _check_interface(before, runner)
    fidelity = _judged(request.format, source, all_cases, compared, artefact, runner, judge)
    changed = Compared(folder, artefact, runner, fidelity)
    report["float"] = _measured(compared, before, all_cases)
    report["optimized"] = _measured(changed, runner, all_cases)
    return changed, report


def stats(
    request: ExportRequest, changes: Mapping[str, Any], fidelity: Mapping[str, Any], size_bytes: int
) -> dict[str, Any]:
    """Return the report for the job; empty without an optimisation. MB are 10^6 bytes."""
    if not request.optimization:
        return {}
    original = sum(path.stat().st_size for path in _files(request.source))
    return {
        "original_size_mb": round(original / 1e6, 3),
        "exported_size_mb": round(size_bytes / 1e6, 3),
        "compression_ratio": round(original / size_bytes, 3),
        "recipe": config.recipe(request.optimization),
        **changes,
        "judgement": fidelity.get("optimization", _BY_COMPARISON),
    }


def _files(path: Path) -> Iterator[Path]:
    return (part for part in path.rglob("*") if part.is_file()) if path.is_dir() else iter((path,))


def _judged(
    format_name: str,
    source: Source,
    all_cases: list[Case],
    compared: Compared,
    artefact: Artefact,
    runner: runners.Runner,
    judge: Judge | None,
) -> dict[str, Any]:
    """Return fidelity.json: the comparison of the float artefact, and the judgement of the optimised one."""
    if judge is None:
        proof = fidelity_of(source, all_cases, artefact, runner)
        if proof["verdict"] == FAILED:
            proof["failure"] = refusal.describe(source, all_cases, format_name, artefact, runner, proof)
        own = {name: compared.fidelity[name] for name in ("converters_tried", "tools")}
        return {**proof, **own, "optimization": _BY_COMPARISON}
    judgement = judge.judge(runner.predict)
    fidelity = {
        **compared.fidelity,
        "precision": artefact.precision,
        "compared": "the artefact before its quantization",
        "optimization": {"judged_on": "the rows of a dataset", **judgement},
    }
    if not judgement["passed"]:
        fidelity["verdict"] = FAILED
        fidelity["failure"] = {"message": _why_failed(judgement)}
    return fidelity


def _why_failed(judgement: Mapping[str, Any]) -> str:
    low, high = judgement["interval"]
    return (
        f"The optimised artefact is worse than the original model: {judgement['metric']} drops by "
        f"{judgement['drop']:.4f} (95 % interval {low:.4f} to {high:.4f}) on {judgement['samples']} rows, "
        f"and {judgement['allowed_drop']:g} is allowed. Set quantization.keep_float to auto, or use another "
        "method."
    )


def _check_interface(before: runners.Runner, after: runners.Runner) -> None:
    for what in ("inputs", "outputs"):
        wanted, found = ([(spec.name, spec.dtype) for spec in getattr(one, what)] for one in (before, after))
        if wanted != found:
            raise ConversionFailed(f"The quantizer changed the {what}: {found} instead of {wanted}.")


def _measured(compared: Compared, runner: runners.Runner, all_cases: list[Case]) -> dict[str, float]:
    measured = measure.measure(runner, all_cases, compared.artefact.details)
    return {"size_bytes": compared.size_bytes, "latency_ms": measured["inference_latency_ms"]}
