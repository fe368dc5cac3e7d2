"""Sample inputs that are stored with a model: what its exports are compared on, too."""

import io

import numpy as np
import pytest

from model_service.jobs.context import Context
from model_service.jobs.export import export
from model_service.services import Services
from model_service.services.exports.requests import SAMPLE_INPUTS
from model_service.services.files.files import NewFile
from model_service.storage.common.db import Database
from tests.api.finished import wrong_references
from tests.factories import model_fields, scaling_program

ROWS = np.asarray([[1e4, -2.0, 3.5]] * 4, dtype=np.float32)


def npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def asked(services: Services, files: dict[str, bytes]) -> str:
    model = services.models.register(model_fields())
    for path, content in files.items():
        services.files.store(
            services.files.writable(str(model["_id"]), path), iter([content]), NewFile.at(path), sha256=None
        )
    job = services.exports.create(
        model_id=str(model["_id"]),
        training_job_id=None,
        export_format="onnx",
        export_config={},
        optimization_config=None,
        validation_config=None,
        version_tag=None,
    )
    return str(job["_id"])


@pytest.mark.parametrize("first", ["model.pt2", SAMPLE_INPUTS])
def test_an_export_is_compared_on_the_stored_sample_inputs(
    context: Context, services: Services, database: Database, first: str
) -> None:
    contents = {"model.pt2": scaling_program(), SAMPLE_INPUTS: npz(x=ROWS)}
    job_id = asked(services, dict(sorted(contents.items(), key=lambda item: item[0] != first)))
    assert wrong_references(database) == []
    source = services.exports.get(job_id)["source"]
    assert (source["filename"], "files" in source) == ("model.pt2", False)
    export(job_id)
    job = services.exports.get(job_id)
    assert job["status"] == "completed", job["log"]
    assert "samples" in [case["case"] for case in job["fidelity"]["cases"]]
    assert wrong_references(database) == []


def test_sample_inputs_that_do_not_fit_fail_the_job_with_what_does(
    context: Context, services: Services, database: Database
) -> None:
    job_id = asked(services, {"model.pt2": scaling_program(), SAMPLE_INPUTS: npz(y=ROWS)})
    export(job_id)
    job = services.exports.get(job_id)
    assert (job["status"], job["error_code"]) == ("failed", "invalid_source")
    assert "The sample inputs must contain 'x' as float32" in job["error_message"]
    assert wrong_references(database) == []


def test_other_sample_inputs_are_another_request(services: Services) -> None:
    digests = [
        services.exports.get(asked(services, {"model.pt2": b"one", SAMPLE_INPUTS: npz(x=rows)}))[
            "request_digest"
        ]
        for rows in (ROWS, ROWS * 2)
    ]
    assert digests[0] != digests[1]
