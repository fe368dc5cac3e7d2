"""One evaluation: fetch the model or package and the data, measure in a child process, store the metrics."""

from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from model_service import tracing
from model_service.jobs.command import EVALUATION
from model_service.jobs.context import CONTEXT, Context
from model_service.jobs.conversion import PROCESSING, common_fields
from model_service.jobs.converter import Child, ConversionError, Event
from model_service.jobs.lease import Lease
from model_service.jobs.leased import FETCHED, RAN, JobRunner
from model_service.jobs.source import fetch, fetch_dataset, fetch_samples
from model_service.metrics import EVALUATIONS
from model_service.sentences import as_field
from model_service.storage.common.db import Session
from model_service.storage.common.documents import Fields
from model_service.storage.evaluations.documents import Evaluation, MetricValue

_METRICS, _SAMPLES = TypeAdapter(dict[str, MetricValue]), TypeAdapter(int)


def evaluate(evaluation_id: str) -> None:
    """Run the next evaluation. ``evaluation_id`` only shows that one waits."""
    EvaluationRunner(CONTEXT.get()).run_next(evaluation_id)


class EvaluationRunner(JobRunner[Evaluation]):
    kind = "evaluation"
    advice_after_repair = "create a new evaluation"

    def __init__(self, context: Context) -> None:
        super().__init__(context, context.stores.evaluations, context.stores.evaluation_turns)

    def start_child(self) -> Child:
        return self.context.converter.start(EVALUATION)

    def count(self, job: Evaluation, outcome: str, seconds: float) -> None:
        EVALUATIONS.labels(outcome=outcome).inc()

    def run(self, job: Evaluation, child: Child, lease: Lease) -> None:
        blobs, config = self.context.stores.blobs, job["source_config"]
        self.report(job, 0.0, "fetching the model and the data", "fetch", process_id=child.process.pid)
        with tracing.span("fetch"):
            named = config.get("architecture") is not None
            source = fetch(blobs, job["source"], child.workspace, architecture=named)
            samples = fetch_samples(blobs, job["source"], child.workspace)
            dataset = fetch_dataset(blobs, job["datasets"][0], child.workspace)
        self.report(job, FETCHED, "starting the evaluation", "start")
        is_package = job["export_job_id"] is not None
        request = {
            "source": None if is_package else str(source),
            "package": str(source) if is_package else None,
            "sample_inputs": str(samples) if samples else None,
            "options": {name: value for name, value in config.items() if name not in PROCESSING},
            **{name: config.get(name) for name in PROCESSING},
            **common_fields(self.context.settings, job),
            "dataset": dataset,
            "metrics": job["metrics"],
            "samples": job["samples"],
            "seed": job["seed"],
        }
        result = self.convert(job, child, lease, request)
        self.report(job, RAN, "storing the metrics", "store")
        self._end(job, results_of(result))

    def _end(self, job: Evaluation, results: Fields) -> None:
        store, token = self.context.stores.evaluations, job["lease"]["token"]

        def finish(_: Fields, session: Session) -> bool:
            if not store.complete(job["_id"], token, results, session):
                return False
            if job["export_job_id"] is None:
                store.show_latest(job["model_id"], job["dataset_id"], session)
            return True

        with self.context.stores.models.changing(job["model_id"]):
            self.end(job, finish)

    def fail(self, job: Evaluation, failure: ConversionError, workspace: Path | None = None) -> None:
        def finish(_: Fields, session: Session) -> bool:
            return self.context.stores.evaluations.fail(
                job["_id"],
                job["lease"]["token"],
                code=failure.code,
                message=as_field(failure.message),
                session=session,
            )

        self.end(job, finish)


def results_of(result: Event) -> dict[str, Any]:
    """Return the fields of a completed evaluation. Raises: ValueError: the result has another form."""
    return {
        "results": _METRICS.validate_python(result.get("metrics")),
        "evaluated_samples": _SAMPLES.validate_python(result.get("samples")),
        **{name: result.get(name) for name in ("performance", "confusion", "code_versions")},
    }
