"""One export from end to end: load, ask, convert, compare, package."""

import shutil
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import cases, golden, limits, metadata, package, registry, runners, sources, verify, wrappers
from .base import VERIFIED, Artefact, Case, Exporter, ExportRequest, ExportResult, Progress, Source
from .errors import ConversionFailed, UnsupportedOption, VerificationFailed, as_limit
from .processing.declared import check_postprocessing

# Enough calls for a median; a slow model is measured for a second at most.
_MEASURED_CALLS = 30
_MEASURED_S = 1.0


@dataclass(frozen=True)
class _Attempt:
    folder: Path
    artefact: Artefact
    runner: runners.Runner
    fidelity: dict[str, Any]


def run(request: ExportRequest, progress: Progress = lambda step, percent, message: None) -> ExportResult:
    """Leave a package in ``request.output_dir``, which must be empty or not exist.

    Raises:
        ExportError: one of its kinds. After VerificationFailed the package is there, for diagnosis; after
            any other nothing is.
    """
    check(request)
    folder = request.output_dir
    if folder.exists() and any(folder.iterdir()):
        raise UnsupportedOption(
            f"The output folder {folder.name!r} is not empty.", allowed=None, option="output_dir"
        )
    steps: dict[str, float] = {}
    scratch = folder / ".work"
    scratch.mkdir(parents=True)
    try:
        attempt, source, asked = _convert(request, scratch, steps, progress)
        with _timed(steps, "package"):
            progress("package", 85.0, "Writing the package")
            _write_package(request, folder, source, attempt, asked[0])
            shutil.rmtree(scratch)
            manifest = package.write_manifest(folder)
    except BaseException:
        shutil.rmtree(folder)
        raise
    verdict = attempt.fidelity["verdict"]
    if verdict != VERIFIED:
        raise VerificationFailed(_difference(attempt), fidelity=attempt.fidelity, package_dir=str(folder))
    with _timed(steps, "measure"):
        progress("measure", 95.0, "Measuring the artefact")
        performance = _measure(attempt.runner, asked)
    progress("done", 100.0, "Verified: the artefact behaves like its source")
    return ExportResult(
        package_dir=folder,
        format=request.format,
        verdict=verdict,
        converter=attempt.artefact.converter,
        artefact=attempt.artefact.files[0],
        artefact_size_bytes=sum(manifest.files[name].size_bytes for name in attempt.artefact.files),
        options=registry.specification(request.format).validate(request.options),
        fidelity=attempt.fidelity,
        performance=performance,
        steps_s={name: round(value, 3) for name, value in steps.items()},
    )


def check(request: ExportRequest) -> dict[str, Any]:
    """The options, complete. Reads no file and imports no framework.

    Raises:
        UnsupportedOption: something in the request is not offered.
    """
    limits.check(request.limits)
    check_postprocessing(request.postprocessing)
    return registry.specification(request.format).validate(request.options)


def _convert(
    request: ExportRequest, scratch: Path, steps: dict[str, float], progress: Progress
) -> tuple[_Attempt, Source, list[Case]]:
    exporter = registry.get(request.format)
    options = exporter.SPECIFICATION.validate(request.options)
    with _timed(steps, "load"):
        progress("load", 5.0, "Loading the model")
        source = sources.load(request.source, options)
        converters = list(exporter.converters(source, options))
    with _timed(steps, "reference"):
        progress("reference", 20.0, "Asking the source model")
        asked = cases.plan(source, request.sample_inputs)
        _check_classes(request, asked[0])
    with _timed(steps, "convert"):
        attempt = _best(exporter, source, asked, options, converters, scratch, progress)
    return attempt, source, asked


def _best(
    exporter: Exporter,
    source: Source,
    asked: list[Case],
    options: Mapping[str, Any],
    converters: list[str],
    scratch: Path,
    progress: Progress,
) -> _Attempt:
    """The first converter whose artefact agrees with the source; when none does, the first that made one."""
    tried: list[dict[str, Any]] = []
    first: _Attempt | None = None
    failure: ConversionFailed | None = None
    for number, converter in enumerate(converters):
        percent = 35.0 + 40.0 * number / len(converters)
        progress("convert", percent, f"Converting with the {converter} exporter")
        folder = scratch / converter
        folder.mkdir()
        try:
            artefact = exporter.convert(source, asked[0], options, folder, converter)
            runner = _open(exporter, folder / artefact.files[0])
        except ConversionFailed as exc:
            failure = failure or exc
            tried.append({"converter": converter, "result": "conversion_failed", "reason": exc.message})
            continue
        progress("verify", percent + 15.0, "Comparing the artefact with its source")
        fidelity = verify.compare(asked, runner.predict)
        tried.append({"converter": converter, "result": fidelity["verdict"]})
        fidelity |= {"converters_tried": tried, "tools": verify.tools()}
        attempt = _Attempt(folder, artefact, runner, fidelity)
        if fidelity["verdict"] == VERIFIED:
            return attempt
        first = first or attempt
    if first is not None:
        return first
    if failure is None:
        raise ConversionFailed("No converter takes this model.")
    failure.details["converters_tried"] = tried
    raise failure


def _open(exporter: Exporter, path: Path) -> runners.Runner:
    try:
        return runners.open_artefact(exporter.SPECIFICATION.name, path)
    except Exception as exc:
        raise as_limit(exc) or ConversionFailed(
            f"The conversion made a file that its own runtime does not load: {str(exc).strip()[:300]}"
        ) from exc


def _write_package(
    request: ExportRequest, folder: Path, source: Source, attempt: _Attempt, base: Case
) -> None:
    size_bytes = 0
    for name in attempt.artefact.files:
        (attempt.folder / name).rename(folder / name)
        size_bytes += (folder / name).stat().st_size
    document = metadata.describe(request, source, attempt.artefact, attempt.runner.outputs, base, size_bytes)
    package.write_json(folder / package.METADATA, document)
    package.write_json(folder / package.FIDELITY, attempt.fidelity)
    golden.write(folder / package.GOLDEN, base)
    wrappers.write(folder, document, attempt.fidelity["tools"])


def _check_classes(request: ExportRequest, case: Case) -> None:
    if not request.classes:
        return
    name, scores = next(iter(case.expected.items()))
    if scores.ndim != 2 or scores.shape[1] != len(request.classes):
        raise UnsupportedOption(
            f"{len(request.classes)} classes are named, but {name!r} has the shape {list(scores.shape)}.",
            allowed=scores.shape[-1] if scores.ndim else None,
            option="classes",
        )


def _difference(attempt: _Attempt) -> str:
    """The worst finding in one sentence."""
    for report in attempt.fidelity["cases"]:
        if "error" in report:
            return f"The artefact fails where its source works ({report['case']}): {report['error']}"
        for name, output in report["outputs"].items():
            if not output["passed"]:
                distance = f", by {output['max_abs']}" if output["max_abs"] is not None else ""
                return (
                    f"The artefact does not behave like its source: output {name!r} ({report['case']}) is "
                    f"{output['reason']}{distance}. Its package can be fetched for diagnosis, but not "
                    "deployed."
                )
    return "The artefact could not be compared with its source."


def _measure(runner: runners.Runner, asked: list[Case]) -> dict[str, float]:
    """Latency on one core, of the smallest batch that was asked."""
    smallest = min(asked, key=lambda case: sum(array.size for array in case.inputs.values()))
    batch = next((array.shape[0] for array in smallest.inputs.values() if array.ndim), 1)
    runner.predict(smallest.inputs)
    durations: list[float] = []
    deadline = time.perf_counter() + _MEASURED_S
    while len(durations) < _MEASURED_CALLS and (not durations or time.perf_counter() < deadline):
        started = time.perf_counter()
        runner.predict(smallest.inputs)
        durations.append(time.perf_counter() - started)
    latency_s = statistics.median(durations)
    return {
        "inference_latency_ms": round(latency_s * 1000, 4),
        "throughput_fps": round(batch / latency_s, 1),
        "batch_size": batch,
        "threads": 1,
    }


@contextmanager
def _timed(steps: dict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    steps[name] = time.perf_counter() - started
