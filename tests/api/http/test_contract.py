"""Every route against what /openapi.json says of it: no server error, no answer that it does not document.

schemathesis makes the requests from the document, right ones and wrong ones.
"""

from typing import Any

import pytest
import schemathesis
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from model_service.storage.common.db import Database
from tests.api.deployed import deploy, exported

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
EXAMPLES = 10
ANY_SEGMENT = r"^[^/\u0000]+$"

schemathesis.serializer.alias("application/x-tar", "application/octet-stream")


@pytest.fixture
def real_ids(http: FlaskClient, model_id: str, database: Database) -> dict[str, str]:
    """What exists, by the names of path parameters."""
    http.post(f"/api/v1/models/{model_id}/upload", data=b"weights", headers={"X-Filename": "model.bin"})
    dataset = http.post("/api/v1/datasets", json={"name": "digits"}).json
    job = http.post("/api/v1/training", json={"name": "digits", "algorithm": "convnet"}).json
    return {
        "model_id": model_id,
        "path": "model.bin",
        "dataset_id": str(dataset["id"]),
        "job_id": str(job["id"]),
        "deployment_id": str(deploy(http, export_job_id=exported(http, database))["id"]),
    }


@pytest.mark.timeout(900)
def test_every_answer_is_documented(app: Flask, real_ids: dict[str, str]) -> None:
    app.wsgi_app = _closed(app.wsgi_app)  # type: ignore[method-assign]
    schema = schemathesis.openapi.from_wsgi("/openapi.json", app)
    wrong = []
    operations = [found.ok() for found in schema.get_all_operations()]
    for operation in sorted(operations, key=lambda operation: operation.method == "delete"):
        for mode in GenerationMode:
            if mode is GenerationMode.NEGATIVE and not _can_be_wrong(operation):
                continue
            try:
                exercise(operation, mode, real_ids)
            except Unsatisfiable:
                pass  # a route without parameters takes no wrong ones
            except (Exception, FailureGroup) as exc:  # collected: one run shows them all
                wrong.append(f"{operation.label} ({mode.value}): {exc}")
    assert not wrong, "\n\n".join(wrong)


def _can_be_wrong(operation: Any) -> bool:
    """False if a request has nothing but segments of its path that may be any text."""
    declared = operation.definition.raw
    return "requestBody" in declared or any(
        parameter["in"] != "path" or parameter["schema"].get("pattern") != ANY_SEGMENT
        for parameter in declared.get("parameters", [])
    )


def _closed(application: Any) -> Any:
    """Every answer is read and closed, as a server does: schemathesis leaves those open that stream."""

    def run(environ: Any, start_response: Any) -> list[bytes]:
        body = application(environ, start_response)
        try:
            return [b"".join(body)]
        finally:
            getattr(body, "close", lambda: None)()

    return run


def exercise(operation: Any, mode: GenerationMode, real_ids: dict[str, str]) -> None:
    """Half of the requests are for things that exist."""

    @given(case=operation.as_strategy(generation_mode=mode), existing=st.booleans())
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def check(case: schemathesis.Case, existing: bool) -> None:
        if existing:
            case.path_parameters |= {k: v for k, v in real_ids.items() if k in case.path_parameters}
        case.call_and_validate(checks=CHECKS)

    check()
