"""Run one export: load, choose inputs, convert, compare, package."""

import gc
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from . import conversions as conversions
from . import metadata, package, registry, runners, sources, validating, wrappers
from .base import FAILED, NOT_EXECUTED, VERIFIED, Artefact, Case, Progress, Source, StepEnded
from .errors import ConversionFailed, UnsupportedOption, VerificationFailed, as_limit
from .optimize import config, pipeline
from .optimize.pipeline import Compared
from .processing import embed
from .proof import (
    bounded_cost,
    cases,
    golden,
    independence,
    measure,
    memory,
    refusal,
    samples,
    validation,
    verify,
)
from .request import ExportRequest, ExportResult
from .sandbox import limits
from .steps import Steps

PROCESSOR = "preprocessor_config.json"
_DONE = {
    VERIFIED: "Verified: the artefact behaves like its source",
    NOT_EXECUTED: "Converted; it cannot run here, so it was not compared with its source",
}


@dataclass(frozen=True)
class _Converted:
    """``request``: with the details that its declarations leave open.

    ``original``: the source as it was before its optimisation. ``optimization``: what was changed.
    """

    attempt: Compared
    source: Source
    original: Source
    cases: list[Case]
    request: ExportRequest
    validator: validating.Validator | None
    optimization: dict[str, Any]

    def golden(self) -> Case:
        """Return the golden case. The outputs of an artefact that was judged on a dataset are its own."""
        artefact, runner = self.attempt.artefact, self.attempt.runner
        case = golden.choose(self.cases, self.source.labels, artefact.precision)
        if runner is None or "compared" not in self.attempt.fidelity:
            return case
        return replace(case, expected=runner.predict(case.inputs))


def run(
    request: ExportRequest,
    progress: Progress = lambda step, percent, message: None,
    step_ended: StepEnded = lambda step, began_ns, seconds, failed: None,
) -> ExportResult:
    """Write a package to ``request.output_dir``, which must be empty or not exist.

    Raises:
        ExportError: one of its kinds. After VerificationFailed and ValidationFailed the package is there, for
            diagnosis; after any other error nothing is.
    """
    check(request)
    request = pipeline.complete(request)
    folder = request.output_dir
    if folder.exists() and any(folder.iterdir()):
        raise UnsupportedOption(
            f"The output folder {folder.name!r} is not empty. Choose an empty or new folder.",
            allowed=None,
            option="output_dir",
        )
    steps = Steps(step_ended)
    scratch = folder / ".work"
    scratch.mkdir(parents=True)
    try:
        with _frameworks_unscanned():
            converted = _convert(request, scratch, steps, progress)
        attempt, source, request = converted.attempt, converted.source, converted.request
        validator = converted.validator
        results: validation.Results | None = None
        performance: dict[str, Any] = {}
        if attempt.runner is not None and attempt.fidelity["verdict"] != FAILED:
            with steps.timed("measure"):
                progress("measure", 80.0, "Measuring the artefact")
                performance = measure.measure(attempt.runner, converted.cases, attempt.artefact.details)
                if validator is not None:  # a process takes too long for an export without a dataset
                    path = attempt.folder / attempt.artefact.files[0]
                    performance |= memory.peak(request.format, path, converted.cases[0].inputs)
        if validator is not None and attempt.fidelity["verdict"] != FAILED:
            with steps.timed("validate"):
                results = validator.run(converted.original, attempt.runner, attempt.why_not, progress)
        with steps.timed("package"):
            progress("package", 90.0, "Writing the package")
            if _ignored_processor(source, request):
                progress("package", 90.0, f"Not applied: {PROCESSOR} of the checkpoint; see README.md")
            _write_package(request, folder, source, attempt, converted.golden(), performance, results)
            shutil.rmtree(scratch)
            manifest = package.write_manifest(folder)
    except BaseException:
        shutil.rmtree(folder)
        raise
    verdict = attempt.fidelity["verdict"]
    if verdict == FAILED:
        raise VerificationFailed(
            attempt.fidelity["failure"]["message"], fidelity=attempt.fidelity, package_dir=str(folder)
        )
    if results is not None and results.passed is False:
        raise validating.failure(results, str(folder))
    progress("done", 100.0, _DONE[verdict])
    size_bytes = sum(manifest.files[name].size_bytes for name in attempt.artefact.files)
    return ExportResult(
        package_dir=folder,
        format=request.format,
        verdict=verdict,
        converter=attempt.artefact.converter,
        artefact=attempt.artefact.files[0],
        artefact_size_bytes=size_bytes,
        options=registry.specification(request.format).validate(request.options),
        fidelity=attempt.fidelity,
        performance=performance,
        steps_s={name: round(value, 3) for name, value in steps.seconds.items()},
        validation=validation.summary(results.document) if results is not None else None,
        optimization=pipeline.stats(request, converted.optimization, attempt.fidelity, size_bytes),
    )


def check(request: ExportRequest) -> dict[str, Any]:
    """Return the complete options. Reads no file and imports no framework.

    Raises:
        UnsupportedOption: the request has something that is not supported.
    """
    limits.check(request.limits)
    if request.validation is not None:
        request.validation.check()
    request = pipeline.complete(request)
    options = registry.specification(request.format).validate(request.options)
    embed.complete(request, options)
    return options


def _convert(request: ExportRequest, scratch: Path, steps: Steps, progress: Progress) -> _Converted:
    options = registry.specification(request.format).validate(request.options)
    request = embed.complete(request, options)
    with steps.timed("load"):
        progress("load", 5.0, "Loading the model")
        loaded = sources.load(request.source, options, request.trust)
        changed, changes = loaded, dict[str, Any]()
        if request.optimization:
            with steps.timed("optimize"):
                changed, changes = pipeline.change_source(loaded, request, progress)
        declared = embed.as_declared(request, changed, options)
        source, request = _prepared(changed, declared, options, scratch)
        routes = registry.routes(request.format, source.family, options)
        conversions.of_routes(
            routes, source, options
        )  # errors in the options are reported before the long part
        original = _prepared(loaded, declared, options, scratch)[0] if changes else source
    with steps.timed("reference"):
        progress("reference", 20.0, "Running the source model")
        plan = cases.examine(source)
        source, all_cases = plan.source, plan.cases
        request = embed.name_classes(request, source, all_cases[0])
        embed.check_outputs(request, all_cases[0])
    validator = validating.open_for(request, source)  # before the long part, too
    judge = pipeline.judge(request, source, validator)
    if judge is not None and changes:
        of_original = judge.against(original.reference)
        for change in changes.values():
            change["judgement"] = of_original.judge(source.reference)
        if config.TRAINING in changes:  # its training is part of the quantization that is judged
            judge = of_original
    possible = conversions.of_routes(routes, source, options)
    attempt = _best(request.format, possible, source, all_cases, scratch, steps, progress)
    attempt.fidelity["rejected_by_source"] = dict(plan.rejected)
    if attempt.fidelity["verdict"] != FAILED and request.optimization:
        progress("optimize", 75.0, "Optimising the artefact")
        with steps.timed("optimize"):
            attempt, report = pipeline.change_artefact(
                request, source, all_cases, attempt, judge, scratch / "optimized", _open
            )
        changes |= report
    return _Converted(attempt, source, original, all_cases, request, validator, changes)


def _prepared(
    source: Source, request: ExportRequest, options: Mapping[str, Any], scratch: Path
) -> tuple[Source, ExportRequest]:
    """Return the source with what the request embeds, as the artefact presents it."""
    embed.check_source(source, request, options)
    source = embed.embed(source, request, scratch)
    source, request = embed.with_suppression(source, request, options)
    source = samples.attach(source, request.sample_inputs, request.preprocessing)
    routes = registry.routes(request.format, source.family, options)
    return registry.presented(routes[0], source, options), request


def _best(
    format_name: str,
    possible: list[conversions.Conversion],
    source: Source,
    all_cases: list[Case],
    scratch: Path,
    steps: Steps,
    progress: Progress,
) -> Compared:
    """Return the first result that agrees with the source; otherwise the first result."""
    tried: list[dict[str, Any]] = []
    first: Compared | None = None
    failure: ConversionFailed | None = None
    for number, conversion in enumerate(possible):
        percent = 35.0 + 40.0 * number / len(possible)
        progress("convert", percent, f"Converting with {conversion.name}")
        folder = scratch / conversion.name
        folder.mkdir()
        try:
            with steps.timed("convert"):
                artefact = conversion.convert(all_cases[0], folder)
                runner, why_not = _open(format_name, folder / artefact.files[0])
        except ConversionFailed as exc:
            failure = failure or exc
            tried.append({"converter": conversion.name, "result": "conversion_failed", "reason": exc.message})
            continue
        progress("verify", percent + 15.0, "Comparing the artefact with its source")
        with steps.timed("verify"):
            if runner is None:
                fidelity = _without_running(source, all_cases, artefact, folder, why_not)
            else:
                fidelity = _compare(source, all_cases, artefact, runner)
        tried.append({"converter": conversion.name, "result": fidelity["verdict"]})
        fidelity |= {"converters_tried": tried, "tools": verify.tools()}
        if source.coverage:
            fidelity["coverage"] = dict(source.coverage)
        attempt = Compared(folder, artefact, runner, fidelity, why_not)
        if fidelity["verdict"] != FAILED:
            return attempt
        first = first or attempt
    if first is not None:
        with steps.timed("verify"):
            return _with_failure(first, format_name, source, all_cases)
    if failure is None:
        raise ConversionFailed("No converter supports this model.")
    failure.details["converters_tried"] = tried
    raise failure


def _with_failure(attempt: Compared, format_name: str, source: Source, all_cases: list[Case]) -> Compared:
    """Add ``failure`` to fidelity.json: the smallest input on which the artefact is wrong."""
    runner, artefact = attempt.runner, attempt.artefact
    if runner is None:  # its stand-in was compared
        runner, _ = _open(artefact.stand_in or format_name, attempt.folder / artefact.files[0])
    if runner is not None:
        attempt.fidelity["failure"] = refusal.describe(
            source, all_cases, format_name, artefact, runner, attempt.fidelity
        )
    return attempt


def _compare(
    source: Source, all_cases: list[Case], artefact: Artefact, runner: runners.Runner
) -> dict[str, Any]:
    return verify.compare(
        all_cases,
        runner.predict,
        artefact.precision,
        source.labels,
        source.derived,
        source.run_by,
        source.units,
    )


def _without_running(
    source: Source, all_cases: list[Case], artefact: Artefact, folder: Path, why_not: str
) -> dict[str, Any]:
    """Return the fidelity report of an artefact that does not run here.

    If it has a stand-in, the stand-in is compared, and a wrong one fails the export.
    """
    fidelity = verify.not_executed(why_not)
    if artefact.stand_in is None:
        return fidelity
    runner, why_not_even = _open(artefact.stand_in, folder / artefact.files[0])
    if runner is None:
        raise ConversionFailed(f"The {artefact.stand_in} inside cannot run here either: {why_not_even}")
    proof = _compare(source, all_cases, artefact, runner)
    if proof["verdict"] == FAILED:
        return proof
    return fidelity | {"stand_in": {"format": artefact.stand_in, **proof}}


def _open(format_name: str, path: Path) -> tuple[runners.Runner | None, str]:
    """Return the runner, or the reason why there is none here."""
    try:
        return runners.open_artefact(format_name, path), ""
    except runners.NotExecutable as exc:
        return None, str(exc)
    except Exception as exc:
        raise as_limit(exc) or ConversionFailed(
            f"The conversion produced a file that its own runtime cannot load: {str(exc).strip()[:300]}"
        ) from exc


def _write_package(
    request: ExportRequest,
    folder: Path,
    source: Source,
    attempt: Compared,
    base: Case,
    performance: Mapping[str, Any],
    results: validation.Results | None,
) -> None:
    size_bytes = 0
    for name in attempt.artefact.files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (attempt.folder / name).rename(folder / name)
        size_bytes += (folder / name).stat().st_size
    outputs = attempt.runner.outputs if attempt.runner else source.output_specs(base)
    performance = {"model_size_bytes": size_bytes, **performance}
    independent = _independent_rows(attempt, base)
    unbounded = (
        bounded_cost.unbounded(folder / attempt.artefact.files[0]) if request.format == "onnx" else None
    )
    document = metadata.describe(
        request, source, attempt.artefact, outputs, base, performance, independent, unbounded
    )
    document["validation"] = validation.summary(results.document) if results is not None else None
    if results is not None:
        package.write_json(folder / package.VALIDATION, results.document)
        if results.inputs:
            validation.write_inputs(folder / package.VALIDATION_INPUTS, results.inputs)
    package.write_json(folder / package.METADATA, document)
    package.write_json(folder / package.FIDELITY, attempt.fidelity)
    known = source.texts or source.table
    name = source.inputs[0].name
    given = {} if known is None else known.golden(name, base.inputs[name])
    golden.write(folder / package.GOLDEN, base, document, given)
    if known is not None and (terms := known.document()) is not None:
        package.write_json(folder / package.VECTORIZER, terms)
    for path in source.attachments:
        shutil.copyfile(path, folder / path.name)
    wrappers.write(folder, document, attempt.fidelity["tools"], attempt.fidelity)


def _ignored_processor(source: Source, request: ExportRequest) -> bool:
    """Return whether the checkpoint's own preprocessing is neither read nor declared."""
    return request.preprocessing is None and any(path.name == PROCESSOR for path in source.attachments)


def _independent_rows(attempt: Compared, base: Case) -> bool | None:
    """Return whether the artefact's rows are independent; None if it does not run here, or is wrong."""
    if attempt.runner is None or attempt.fidelity["verdict"] == FAILED:
        return None
    return independence.rows_are_independent(attempt.runner, base, attempt.artefact.precision)


@contextmanager
def _frameworks_unscanned() -> Iterator[None]:
    """Exclude existing objects from garbage collection: scanning torch takes half a second."""
    if gc.get_freeze_count():  # the caller has frozen them
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
