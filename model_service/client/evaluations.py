"""Calls on evaluations of model versions and exports on datasets."""

import time
from contextlib import closing
from typing import Any

from model_service.client.calls import Calls, wait
from model_service.client.errors import EvaluationCancelled, EvaluationFailed
from model_service.client.records import Page
from model_service.client.transport.http import segment
from model_service.client.transport.progress import MakeBar
from model_service.client.types import Evaluation
from model_service.states import EvaluationStatus

EVALUATIONS = "/api/v1/evaluations"


class EvaluationCalls(Calls):
    def create_evaluation(
        self,
        dataset_id: str,
        *,
        model_id: str | None = None,
        export_job_id: str | None = None,
        **options: Any,
    ) -> Evaluation:
        """Evaluate a model version or a completed export on a dataset version.

        Options: metrics (a list), samples (the number of rows), seed, source_config.

        Raises:
            InvalidRequest: the dataset cannot be loaded or does not fit the model, or has no such metric.
            Conflict: no worker has inspected the dataset's file yet; see ``wait_for_dataset``.
        """
        data = {
            "dataset_id": dataset_id,
            "model_id": model_id,
            "export_job_id": export_job_id,
            **options,
        }
        return Evaluation.from_json(self._transport.create(EVALUATIONS, data))

    def get_evaluation(self, evaluation_id: str) -> Evaluation:
        return Evaluation.from_json(self._transport.json("GET", f"{EVALUATIONS}/{segment(evaluation_id)}"))

    def list_evaluations(
        self, *, page: int | None = None, limit: int | None = None, **filters: Any
    ) -> Page[Evaluation]:
        """Return one page, newest first.

        Filters: model_id, dataset_id, export_job_id, status, user_id, trace_id.
        """
        return self._page(EVALUATIONS, "evaluations", Evaluation, {"page": page, "limit": limit, **filters})

    def cancel_evaluation(self, evaluation_id: str) -> Evaluation:
        """Cancel a waiting or running evaluation; a cancelled one is not changed.

        Raises:
            Conflict: it is completed or failed.
        """
        url = f"{EVALUATIONS}/{segment(evaluation_id)}/cancel"
        return Evaluation.from_json(self._transport.json("POST", url))

    def delete_evaluation(self, evaluation_id: str) -> dict[str, Any]:
        """Delete an evaluation. NotFound may mean that an earlier try, whose response was lost, deleted it.

        Raises:
            Conflict: it is waiting or running.
        """
        return self._transport.json("DELETE", f"{EVALUATIONS}/{segment(evaluation_id)}")

    def wait_for_evaluation(
        self,
        evaluation: str | Evaluation,
        *,
        timeout_s: float = 1800,
        progress: bool | MakeBar | None = None,
    ) -> Evaluation:
        """Wait for the evaluation, and return it when it is completed.

        Raises:
            EvaluationFailed: with its ``error_code`` as ``code``, and its log in ``job.log``.
            EvaluationCancelled.
            WaitTimedOut: not completed within ``timeout_s``; it continues.
        """
        evaluation_id = evaluation if isinstance(evaluation, str) else evaluation.id
        deadline = time.monotonic() + timeout_s
        with closing(self._bar_for(progress)("Evaluating", 100, "percent")) as bar:

            def ended(seen: Evaluation) -> bool:
                bar.update(seen.progress_percent, seen.progress_message or seen.status)
                return seen.ended

            done = wait(lambda: self.get_evaluation(evaluation_id), ended, timeout_s, deadline)
        if done.status == EvaluationStatus.CANCELLED:
            raise EvaluationCancelled(done, f"Evaluation {done.id} was cancelled.", "cancelled")
        if done.status == EvaluationStatus.FAILED:
            reason = done.error_message or "the service gave no reason."
            code = done.error_code or "evaluation_failed"
            raise EvaluationFailed(done, f"Evaluation {done.id} failed: {reason}", code)
        return done
