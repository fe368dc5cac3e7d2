"""Rows with a column of texts: records, CSV, Parquet, and tensors by the columns' names."""

import io
from collections.abc import Callable
from typing import Any

import joblib
import numpy as np
import polars
import pytest
import tritonclient.http as triton

from exporters import convert, package
from exporters.request import ExportRequest
from model_service.client import ModelServiceClient
from tests.exporters.text_columns import fitted, frame
from tests.serving.conftest import KEY, Endpoint, Reply, World

TEXTS = ["GOOD oil, naive café", "", "日本語 unknown", "tyres\n" * 300]
ROWS = frame(4).with_columns(polars.Series("review", TEXTS), shop=polars.lit("Oslo")).drop("title")
RECORD = {"review": "oil", "stars": 1.0, "shop": "Nice", "weight": None}
AUTH = {"Authorization": f"Bearer {KEY}"}
ASK = "/v2/models/endpoint/infer"


@pytest.fixture(scope="module")
def column_zip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("columns")
    joblib.dump(fitted(), folder / "model.joblib")
    convert.run(ExportRequest(folder / "model.joblib", folder / "package", "onnx"))
    package.pack(folder / "package", folder / "package.zip")
    return (folder / "package.zip").read_bytes()


@pytest.fixture
def endpoint(world: World, column_zip: bytes, listen: Callable[..., Endpoint]) -> Endpoint:
    deployment_id = world.deploy(column_zip)
    return listen(world.serving(deployment_id), deployment_id)


def expected() -> Any:
    weight = polars.col("weight").fill_null(float("nan"))
    return fitted().predict_proba(ROWS.with_columns(weight, title=polars.lit("never read")))


def test_every_form_is_answered_as_the_model_answers_the_data_frame(endpoint: Endpoint) -> None:
    split = {"columns": ROWS.columns, "data": [list(row) for row in ROWS.rows()]}
    parquet = io.BytesIO()
    ROWS.write_parquet(parquet)
    answers = [
        endpoint.ask({"records": ROWS.to_dicts()}),
        endpoint.ask({"dataframe_split": split}),
        endpoint.ask(ROWS.write_csv().encode(), content_type="text/csv"),
        endpoint.ask(parquet.getvalue(), content_type="application/vnd.apache.parquet"),
    ]

    for answer in answers:
        assert answer.status == 200, answer.data
        np.testing.assert_allclose(answer.json["outputs"]["probabilities"], expected(), atol=1e-6)


def test_the_client_sends_a_data_frame_or_its_columns(endpoint: Endpoint) -> None:
    address = f"{endpoint.url}/v1/infer/{endpoint.deployment_id}"
    columns = {name: ROWS[name].to_numpy() for name in ROWS.columns}
    with ModelServiceClient("http://127.0.0.1:9") as client:
        for found in (
            client.predict(address, records=ROWS, api_key=KEY),
            client.predict(address, columns, api_key=KEY),
        ):
            np.testing.assert_allclose(found.outputs["probabilities"], expected(), atol=1e-6)


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({"records": [{"stars": 1, "shop": "Nice", "weight": 1}]}, "records.review", "missing"),
        ({"records": [RECORD | {"review": None}]}, "records.review", "missing"),
        ({"records": [RECORD | {"review": 5}]}, "records.review", "takes texts"),
        ({"text": "good oil"}, "text", "text"),
        ({"inputs": ["good oil"]}, "inputs.input", "shape"),
    ],
)
def test_a_wrong_column_is_a_422_that_names_it(endpoint: Endpoint, body: Any, field: str, words: str) -> None:
    answer = endpoint.ask(body)

    assert (answer.status, answer.json["error"]["code"]) == (422, "invalid_field")
    assert [found["field"] for found in answer.json["error"]["details"]["fields"]] == [field]
    assert words in answer.json["error"]["message"]


def _tensors(shape: list[int]) -> list[triton.InferInput]:
    found = []
    for name in ROWS.columns:
        numbers = name in ("stars", "weight")
        tensor = triton.InferInput(name, shape, "FP64" if numbers else "BYTES")
        array = ROWS[name].to_numpy().astype(np.float64 if numbers else object)
        tensor.set_data_from_numpy(array.reshape(shape), binary_data=True)
        found.append(tensor)
    return found


def test_the_open_inference_protocol_takes_a_tensor_for_each_column(endpoint: Endpoint) -> None:
    with triton.InferenceServerClient(endpoint.url.removeprefix("http://")) as client:
        described = client.get_model_metadata("endpoint", headers=AUTH)["inputs"]
        assert [(one["name"], one["datatype"], one["shape"]) for one in described] == [
            ("review", "BYTES", [-1]),
            ("stars", "FP64", [-1]),
            ("shop", "BYTES", [-1]),
            ("weight", "FP64", [-1]),
        ]
        for shape in ([4], [4, 1]):
            found = client.infer("endpoint", _tensors(shape), headers=AUTH)
            np.testing.assert_allclose(found.as_numpy("probabilities"), expected(), atol=1e-6)
    inputs = [_column(name, ROWS[name].to_list()) for name in reversed(ROWS.columns)]
    answer = endpoint.ask({"inputs": inputs}, path=ASK)
    np.testing.assert_allclose(answer.json["outputs"][0]["data"], expected().ravel(), atol=1e-6)


def _column(name: str, values: list[Any], **more: Any) -> dict[str, Any]:
    datatype = "BYTES" if name in ("review", "shop") else "FP64"
    return {"name": name, "datatype": datatype, "shape": [len(values)], "data": values} | more


def _ask(endpoint: Endpoint, *changed: dict[str, Any]) -> Reply:
    inputs = {name: _column(name, [value]) for name, value in RECORD.items()}
    inputs |= {column["name"]: column for column in changed}
    return endpoint.ask({"inputs": list(inputs.values())}, path=ASK)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (_column("town", ["Nice"]), "'town' is not a column"),
        (_column("review", ["oil", "tyres"]), "has 1 rows, and others have 2"),
        (_column("review", ["oil"], shape=[2]), "there are 1 values"),
        (_column("review", ["oil"], shape=[1, 2]), "inputs.review.shape"),
        (_column("review", ["oil"], shape="1"), "inputs.review.shape"),
        (_column("review", [], shape=[0]), "inputs.review.shape"),
        (_column("review", [3]), "inputs.review: takes texts"),
        (_column("review", [None]), "inputs.review: has a missing value"),
        (_column("review", ["oil"], datatype="FP64"), "inputs.review.datatype"),
        (_column("stars", [1.0], datatype="BYTES"), "inputs.stars.datatype"),
        (_column("stars", [1.0], datatype=["FP64"]), "inputs.stars.datatype"),
        (_column("stars", ["one"]), "inputs.stars: takes numbers"),
        (_column("stars", [1.0], shape=[600_000]), "more than 2,000,000 values"),
        (
            _column("stars", [1.0], parameters={"binary_data_size": 8}),
            "inputs.stars.parameters.binary",
        ),
        (_column("stars", [1.0], parameters=3), "inputs.stars.parameters"),
    ],
    ids=lambda value: None if isinstance(value, str) else value["name"],
)
def test_a_wrong_tensor_of_a_column_is_named(endpoint: Endpoint, changed: dict[str, Any], words: str) -> None:
    answer = _ask(endpoint, changed)

    assert answer.status == 422
    assert words in answer.json["error"]


def test_a_column_in_disguise_or_absent_is_refused(endpoint: Endpoint) -> None:
    """What decides that a request is prepared in a thread has to be seen in the body."""
    columns = endpoint.ask({"inputs": [_column("stars", [1.0])]}, path=ASK)
    missing = endpoint.ask({"inputs": [_column("review", ["oil"])]}, path=ASK)
    listed = endpoint.ask({"inputs": [_column("review", ["oil"]), {"name": ["shop"]}]}, path=ASK)

    assert "tensors of BYTES for 'review', 'shop'" in columns.json["error"]
    assert (missing.status, "inputs.stars" in missing.json["error"]) == (422, True)
    assert (listed.status, "is not a column" in listed.json["error"]) == (422, True)
    assert _ask(endpoint).status == 200
