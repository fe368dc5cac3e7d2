"""Waiting for exports and deployments, against a server that tells a story in steps."""

import json
from typing import Any

import pytest

from model_service.client import (
    Deployment,
    DeploymentFailed,
    ExportCancelled,
    ExportFailed,
    ModelServiceClient,
    WaitTimedOut,
)

from .scripted import Scripted, Step, answers


def job(status: str, **fields: Any) -> Step:
    return answers(200, json.dumps({"id": "j1", "status": status, **fields}).encode())


def test_a_completed_export_is_returned_with_what_it_proved(script: Scripted) -> None:
    script.steps = [
        job("pending"),
        job("running", progress_percent=40),
        job("completed", fidelity={"verdict": "verified"}, completed_at="2026-11-21T03:00:00Z"),
    ]
    done = ModelServiceClient(script.url).wait_for_export("j1")
    assert done.fidelity == {"verdict": "verified"}
    assert done.completed_at is not None
    assert done.completed_at.utcoffset() is not None


def test_a_failed_export_raises_with_the_job_and_its_code(script: Scripted) -> None:
    script.steps = [
        job("failed", error_code="verification_failed", error_message="The outputs differ.", log=["compared"])
    ]
    with pytest.raises(ExportFailed, match=r"The outputs differ\.") as caught:
        ModelServiceClient(script.url).wait_for_export("j1")
    assert caught.value.code == "verification_failed"
    assert caught.value.job.raw["log"] == ["compared"]


def test_a_cancelled_export_raises(script: Scripted) -> None:
    script.steps = [job("running"), job("cancelled")]
    with pytest.raises(ExportCancelled):
        ModelServiceClient(script.url).wait_for_export("j1")


def test_waiting_ends_at_its_limit_and_tells_the_last_state(script: Scripted) -> None:
    script.steps = [job("running", progress_percent=10)]
    with pytest.raises(WaitTimedOut) as caught:
        ModelServiceClient(script.url).wait_for_export("j1", timeout_s=0.2)
    assert caught.value.job.status == "running"


def test_the_key_of_a_new_deployment_stays_with_it_and_out_of_its_repr(script: Scripted) -> None:
    script.steps = [job("deploying"), job("active", endpoint_url="http://127.0.0.1:8085/v1/infer/j1")]
    created = Deployment.from_json({"id": "j1", "status": "pending", "api_key": "pk_secret"})
    serving = ModelServiceClient(script.url).wait_for_deployment(created)
    assert serving.status == "active"
    assert serving.api_key == "pk_secret"
    assert "pk_secret" not in repr(serving)


def test_a_failed_deployment_raises_with_its_reason(script: Scripted) -> None:
    script.steps = [job("deploying"), job("failed", error_message="The package is damaged.")]
    with pytest.raises(DeploymentFailed, match=r"The package is damaged\."):
        ModelServiceClient(script.url).wait_for_deployment("j1")
