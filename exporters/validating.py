"""The validation of an export on the dataset of its request."""

from dataclasses import dataclass
from typing import Any

from . import runners
from .base import Progress, Source
from .datasets.base import Dataset
from .errors import ValidationFailed
from .metrics import decoding
from .proof import data, validation
from .request import ExportRequest, Validation


@dataclass(frozen=True)
class Validator:
    """A request's dataset, opened for its model. ``thresholds``: metric → the largest drop that passes."""

    request: Validation
    dataset: Dataset
    decoder: decoding.Decoder
    names: list[str] | None  # None: all that the predictions have
    thresholds: dict[str, float]

    def run(
        self, source: Source, runner: runners.Runner | None, why_not: str, progress: Progress
    ) -> validation.Results:
        """Validate an artefact. ``runner`` None: it does not run here, because of ``why_not``."""

        def report(done: int, total: int) -> None:
            progress("validate", 82.0 + 7.0 * done / total, f"Validating: {done:,} of {total:,} rows")

        return validation.validate(
            source.reference,
            runner.predict if runner is not None else None,
            self.dataset,
            self.decoder,
            self.names,
            fail_threshold=self.thresholds,
            samples=self.request.samples,
            seed=self.request.seed,
            why_not=why_not,
            rows=report,
        )


def open_for(request: ExportRequest, source: Source) -> Validator | None:
    """Open the request's dataset; None if it names none.

    Raises:
        InvalidDataset: the file cannot be read, or does not fit the model.
        UnsupportedOption: a metric that the dataset's task does not have.
    """
    if request.validation is None:
        return None
    dataset = data.for_source(
        request.validation.dataset,
        source,
        task_type=request.model.get("task_type"),
        preprocessing=request.preprocessing,
        classes=request.classes,
    )
    facts = data.facts_of(source, request.postprocessing, request.classes or dataset.classes)
    decoder = decoding.decoder(dataset.task, facts)
    names, thresholds = request.validation.check(task=dataset.task)
    asked = names if request.validation.metrics else None
    return Validator(request.validation, dataset, decoder, asked, thresholds)


def failure(results: validation.Results, package_dir: str) -> ValidationFailed:
    """Return the error of results whose drop is above its threshold."""
    details: dict[str, Any] = {
        "validation": validation.summary(results.document),
        "package_dir": package_dir,
    }
    return ValidationFailed(
        f"The artefact is worse on the dataset than fail_threshold allows: {results.document['reason']}. "
        "Export with a higher precision, or raise the threshold.",
        **details,
    )
