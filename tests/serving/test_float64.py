"""An endpoint of a model that takes float64: no request form rounds its numbers to float32."""

from collections.abc import Callable
from typing import Any

import joblib
import numpy as np
import pytest
import tritonclient.http as triton
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from exporters import convert, package
from exporters.request import ExportRequest
from tests.serving.conftest import KEY, Endpoint, World

ROWS = 1e9 + np.random.default_rng(0).normal(size=(60, 3))
MODEL = make_pipeline(StandardScaler(), LogisticRegression()).fit(ROWS, (ROWS[:, 0] > 1e9).astype(int))
ASKED = ROWS[:4]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("float64")
    joblib.dump(MODEL, folder / "model.joblib")
    convert.run(ExportRequest(folder / "model.joblib", folder / "package", "onnx", {"float64": True}))
    package.pack(folder / "package", folder / "package.zip")
    return (folder / "package.zip").read_bytes()


@pytest.fixture
def endpoint(world: World, archive: bytes, listen: Callable[..., Endpoint]) -> Endpoint:
    deployment_id = world.deploy(archive)
    return listen(world.serving(deployment_id), deployment_id)


def is_right(probabilities: Any) -> None:
    np.testing.assert_allclose(probabilities, MODEL.predict_proba(ASKED), rtol=1e-9)


def test_rows_in_json(endpoint: Endpoint) -> None:
    answer = endpoint.ask({"inputs": {"input": ASKED.tolist()}})

    assert answer.status == 200, answer.data
    is_right(answer.json["outputs"]["probabilities"])


@pytest.mark.parametrize("binary", [False, True])
def test_tensors_of_fp64(endpoint: Endpoint, binary: bool) -> None:
    given = triton.InferInput("input", ASKED.shape, "FP64")
    given.set_data_from_numpy(ASKED, binary_data=binary)
    wanted = [triton.InferRequestedOutput("probabilities", binary_data=binary)]
    headers = {"Authorization": f"Bearer {KEY}"}
    with triton.InferenceServerClient(endpoint.url.removeprefix("http://")) as client:
        assert client.get_model_metadata("endpoint", headers=headers)["inputs"][0]["datatype"] == "FP64"

        answer = client.infer("endpoint", [given], outputs=wanted, headers={"Authorization": f"Bearer {KEY}"})

    assert answer.as_numpy("probabilities").dtype == np.float64
    is_right(answer.as_numpy("probabilities"))
