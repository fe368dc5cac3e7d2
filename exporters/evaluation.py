"""Run a model or a package on a dataset: its metrics, and its speed here."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from . import package, registry, runners, sources
from .base import Progress, StepEnded
from .datasets.base import Dataset
from .datasets.schema import DatasetFile
from .errors import PackageCorrupt, UnsupportedOption
from .metrics import decoding
from .processing import embed
from .processing.declared import class_names
from .proof import data, measure, memory, samples, sizes, validation, verify
from .proof.probing import Prober
from .request import ExportRequest, Validation, check_fields
from .steps import Steps

# A source is prepared as for an export to this format, which has the options of sources.
_AS = "onnx"


@dataclass(frozen=True)
class EvaluationRequest:
    """A ``source`` with its ``options`` and declarations, or a ``package``: a folder or a zip.

    The other fields are those of ``ExportRequest`` and of its ``Validation``.
    """

    dataset: DatasetFile
    source: Path | None = None
    package: Path | None = None
    options: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    classes: list[str] | None = None
    preprocessing: dict[str, Any] | None = None
    postprocessing: dict[str, Any] | None = None
    sample_inputs: Path | None = None
    metrics: list[str] | None = None
    samples: int | None = None
    seed: int = 0
    limits: dict[str, int] | None = None
    allow_unsafe: bool = False
    allowed_modules: list[str] | None = None
    traceparent: str | None = None

    @classmethod
    def from_json(cls, given: Any) -> "EvaluationRequest":
        """Parse a request. Raises UnsupportedOption for a missing, unknown or wrongly typed field."""
        known = [item.name for item in fields(cls)]
        check_fields(given, known, ())
        named = [name for name in ("source", "package") if given.get(name)]
        if len(named) != 1 or not isinstance(given[named[0]], str):
            raise UnsupportedOption("The request needs either 'source' or 'package', a path.", allowed=known)
        request = cls(
            **{
                **{name: value for name, value in given.items() if value is not None},
                "dataset": DatasetFile.from_json(given.get("dataset")),
                "classes": class_names(given.get("classes")),
                **{
                    name: Path(given[name])
                    for name in ("source", "package", "sample_inputs")
                    if given.get(name)
                },
            }
        )
        request.measures()
        return request

    def measures(self, task: str | None = None) -> list[str]:
        """Return the metrics. Raises UnsupportedOption: invalid ones, or not those of the task."""
        asked = Validation(self.dataset, self.metrics, None, self.samples, self.seed)
        return asked.check("evaluation", task)[0]


@dataclass(frozen=True)
class _Model:
    """``details``: as ``measure.timed``; ``artefact``: the format and file of a package's."""

    predict: validation.Predict
    dataset: Dataset
    decoder: decoding.Decoder
    details: dict[str, Any]
    artefact: tuple[str, Path] | None = None


def run(
    request: EvaluationRequest,
    progress: Progress = lambda step, percent, message: None,
    step_ended: StepEnded = lambda step, began_ns, seconds, failed: None,
) -> dict[str, Any]:
    """Return the result of ``validation.evaluate`` with ``performance`` and ``code_versions``.

    Raises:
        InvalidDataset, UnsupportedOption: the dataset does not fit the model, or the metrics not its task.
        ExportError: as for loading a source, or a package.
    """
    steps = Steps(step_ended)
    with _model(request, steps, progress) as model:
        names = request.measures(model.dataset.task)
        with steps.timed("measure"):
            progress("measure", 20.0, "Measuring the model")
            first = next(model.dataset.batches(1, at_most=1, seed=request.seed)).inputs
            performance = measure.timed(model.predict, first, model.details)
            if model.artefact is not None:
                performance |= memory.peak(*model.artefact, first)

        def report(done: int, total: int) -> None:
            progress("evaluate", 25.0 + 70.0 * done / total, f"Evaluating: {done:,} of {total:,} rows")

        with steps.timed("evaluate"):
            found = validation.evaluate(
                model.predict,
                model.dataset,
                model.decoder,
                names if request.metrics else None,
                samples=request.samples,
                seed=request.seed,
                rows=report,
            )
    return {**found, "performance": performance, "code_versions": verify.tools()}


@contextmanager
def _model(request: EvaluationRequest, steps: Steps, progress: Progress) -> Iterator[_Model]:
    with tempfile.TemporaryDirectory(dir=(request.package or request.dataset.path).parent) as scratch:
        with steps.timed("load"):
            progress("load", 5.0, "Loading the model")
            if request.package is not None:
                model = _of_package(request.package, request.dataset, Path(scratch))
            else:
                model = _of_source(request, Path(scratch))
        yield model


def _of_package(path: Path, file: DatasetFile, scratch: Path) -> _Model:
    if not path.exists():
        raise PackageCorrupt(f"There is no package {path.name}.")
    folder = path
    if not path.is_dir():
        folder = scratch / "package"
        package.unpack(path, folder)
    package.verify(folder)
    try:
        runner = runners.load(folder)
    except runners.NotExecutable as exc:
        raise UnsupportedOption(
            f"The package cannot run here: {exc}", allowed=None, option="package"
        ) from exc
    metadata = json.loads((folder / package.METADATA).read_bytes())
    dataset, facts = data.for_package(file, folder, metadata)
    artefact = metadata["artefact"]
    return _Model(
        runner.predict,
        dataset,
        decoding.decoder(dataset.task, facts),
        artefact,
        (metadata["model_info"]["export_format"], folder / artefact["files"][0]),
    )


def _of_source(request: EvaluationRequest, scratch: Path) -> _Model:
    assert request.source is not None
    export = ExportRequest(
        request.source,
        scratch,
        _AS,
        request.options,
        request.model,
        request.classes,
        request.preprocessing,
        request.postprocessing,
        request.sample_inputs,
        allow_unsafe=request.allow_unsafe,
        allowed_modules=request.allowed_modules,
    )
    options = registry.specification(_AS).validate(request.options)
    export = embed.complete(export, options)
    source = sources.load(export.source, options, export.trust)
    export = embed.as_declared(export, source, options)
    source = samples.attach(source, export.sample_inputs, export.preprocessing)
    sizes_of = {name: sizes.candidates(name, dimension) for name, dimension in source.dimensions.items()}
    _, base = sizes.base(Prober(source, 0), sizes_of)
    export = embed.name_classes(export, source, base)
    embed.check_outputs(export, base)
    dataset = data.for_source(
        request.dataset,
        source,
        task_type=request.model.get("task_type"),
        preprocessing=export.preprocessing,
        classes=export.classes,
    )
    facts = data.facts_of(source, export.postprocessing, export.classes)
    return _Model(source.reference, dataset, decoding.decoder(dataset.task, facts), {})
