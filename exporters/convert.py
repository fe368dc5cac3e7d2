"""Run one export: prepare the source, convert, compare, measure, package."""

import gc
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import package, validating
from .base import NOT_EXECUTED, VERIFIED, Progress, StepEnded
from .errors import UnsupportedOption, VerificationFailed
from .optimize import auto, pipeline, search
from .processing import embed
from .proof import measure, memory, validation
from .request import ExportRequest, ExportResult
from .sandbox import limits
from .stages import write
from .stages.prepare import options_of, prepare
from .stages.produce import Produced, produce
from .steps import Steps

_DONE = {
    VERIFIED: "Verified: the artefact behaves like its source",
    NOT_EXECUTED: "Converted; it cannot run here, so it was not compared with its source",
}


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
            produced = _produced(request, scratch, steps, progress)
        performance = _measured(produced, steps, progress)
        results = _validated(produced, steps, progress)
        with steps.timed("package"):
            progress("package", 90.0, "Writing the package")
            if write.ignores_processor(produced):
                progress("package", 90.0, f"Not applied: {write.PROCESSOR} of the checkpoint; see README.md")
            write.write(produced, folder, performance, results)
            shutil.rmtree(scratch)
            manifest = package.write_manifest(folder)
    except BaseException:
        shutil.rmtree(folder)
        raise
    _check_passed(produced, results, folder)
    fidelity, artefact = produced.attempt.fidelity, produced.attempt.artefact
    progress("done", 100.0, _DONE[fidelity["verdict"]])
    size_bytes = sum(manifest.files[name].size_bytes for name in artefact.files)
    return ExportResult(
        package_dir=folder,
        format=request.format,
        verdict=fidelity["verdict"],
        converter=artefact.converter,
        artefact=artefact.files[0],
        artefact_size_bytes=size_bytes,
        options=options_of(produced.prepared.request),
        fidelity=fidelity,
        performance=performance,
        steps_s={name: round(value, 3) for name, value in steps.seconds.items()},
        validation=validation.summary(results.document) if results is not None else None,
        optimization=pipeline.stats(produced.prepared.request, produced.optimization, fidelity, size_bytes),
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
    if auto.is_auto(request.optimization):
        auto.check_request(request)
    options = options_of(request)
    embed.complete(request, options)
    return options


def _produced(request: ExportRequest, scratch: Path, steps: Steps, progress: Progress) -> Produced:
    if auto.is_auto(request.optimization):
        return search.search(request, scratch, steps, progress)
    return produce(prepare(request, scratch, steps, progress), scratch, steps, progress)


def _measured(produced: Produced, steps: Steps, progress: Progress) -> dict[str, Any]:
    """Return ``performance``; empty if the artefact does not run here, or is wrong."""
    prepared, attempt = produced.prepared, produced.attempt
    if attempt.runner is None or attempt.failed:
        return {}
    with steps.timed("measure"):
        progress("measure", 80.0, "Measuring the artefact")
        performance = measure.measure(attempt.runner, prepared.cases, attempt.artefact.details)
        if prepared.validator is not None:  # a process takes too long for an export without a dataset
            performance |= memory.peak(prepared.request.format, attempt.path, prepared.cases[0].inputs)
    return performance


def _validated(produced: Produced, steps: Steps, progress: Progress) -> validation.Results | None:
    """Return the metrics on the request's dataset; None without one, or if the artefact is wrong."""
    prepared, attempt = produced.prepared, produced.attempt
    if prepared.validator is None or attempt.failed:
        return None
    with steps.timed("validate"):
        return prepared.validator.run(prepared.original, attempt.runner, attempt.why_not, progress)


def _check_passed(produced: Produced, results: validation.Results | None, folder: Path) -> None:
    """Raises VerificationFailed, ValidationFailed."""
    fidelity = produced.attempt.fidelity
    if produced.attempt.failed:
        raise VerificationFailed(fidelity["failure"]["message"], fidelity=fidelity, package_dir=str(folder))
    if results is not None and results.passed is False:
        raise validating.failure(results, str(folder))


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
