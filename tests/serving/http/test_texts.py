"""Texts to a model whose package counts their terms."""

import json
from collections.abc import Callable
from typing import Any

import joblib
import numpy as np
import pytest
import tritonclient.http as triton
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from typer.testing import CliRunner

from exporters import convert, package
from exporters.request import ExportRequest
from model_service.cli.app import app
from model_service.client import ModelServiceClient
from tests.serving.conftest import KEY, Endpoint, Reply, World

TEXTS = ["the engine needs oil", "a goal in the last minute", "İstanbul, naïve Straße", "oil for the engine"]
KINDS = ["cars", "sport", "words", "cars"]
ASKED = ["OIL, oil and İSTANBUL", "", "日本語 unknown"]


def fitted() -> Any:
    return make_pipeline(TfidfVectorizer(strip_accents="unicode"), LogisticRegression()).fit(TEXTS, KINDS)


@pytest.fixture(scope="module")
def text_zip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("texts")
    joblib.dump(fitted(), folder / "model.joblib")
    convert.run(ExportRequest(folder / "model.joblib", folder / "package", "onnx"))
    package.pack(folder / "package", folder / "package.zip")
    return (folder / "package.zip").read_bytes()


@pytest.fixture
def endpoint(world: World, text_zip: bytes, listen: Callable[..., Endpoint]) -> Endpoint:
    deployment_id = world.deploy(text_zip)
    return listen(world.serving(deployment_id), deployment_id)


@pytest.mark.parametrize("field", ["inputs", "texts"])
def test_texts_are_answered_as_the_model_answers_them(endpoint: Endpoint, field: str) -> None:
    answer = endpoint.ask({field: ASKED})

    assert answer.status == 200, answer.data
    np.testing.assert_allclose(
        answer.json["outputs"]["probabilities"], fitted().predict_proba(ASKED), atol=1e-6
    )
    assert endpoint.ask({"text": ASKED[0]}).json["outputs"]["label"] == [0]


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({"inputs": ["oil", 3]}, "inputs.1", "must be a text"),
        ({"texts": ["oil", None]}, "texts.1", "must be a text"),
        ({"texts": []}, "texts", "at least one item"),
        ({"text": ["oil"]}, "text.0", "must be a text"),
        ({"image": "UEFSMQ=="}, "image", "send texts"),
        ({"records": [{"text": "oil"}]}, "records", "no names"),
        ({"inputs": [3]}, "inputs.input", "shape"),
    ],
)
def test_what_is_no_text_is_a_422_that_names_the_place(
    endpoint: Endpoint, body: Any, field: str, words: str
) -> None:
    answer = endpoint.ask(body)

    assert (answer.status, answer.json["error"]["code"]) == (422, "invalid_field")
    assert [found["field"] for found in answer.json["error"]["details"]["fields"]] == [field]
    assert words in answer.json["error"]["message"]


def test_the_client_and_the_command_line_send_texts(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_SERVICE_DEPLOYMENT_KEY", KEY)
    expected = fitted().predict_proba(ASKED)
    address = f"{endpoint.url}/v1/infer/{endpoint.deployment_id}"
    with ModelServiceClient("http://127.0.0.1:9") as client:
        for found in (client.predict(address, text=ASKED), client.predict(address, np.array(ASKED))):
            np.testing.assert_allclose(found.outputs["probabilities"], expected, atol=1e-6)

    asked = CliRunner().invoke(app, ["predict", address, "--text", ASKED[0], "--json"])

    assert asked.exit_code == 0, asked.output
    np.testing.assert_allclose(json.loads(asked.stdout)["outputs"]["probabilities"], expected[:1], atol=1e-6)


def _auth() -> dict[str, str]:
    return {"Authorization": f"Bearer {KEY}"}


def _open(endpoint: Endpoint, content: Any, **headers: str) -> Reply:
    return endpoint.ask(content, path="/v2/models/endpoint/infer", **headers)


def _bytes(*texts: bytes) -> bytes:
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)


def _text(count: int, **more: Any) -> dict[str, Any]:
    return {"name": "text", "datatype": "BYTES", "shape": [count], **more}


def _binary(tensor: dict[str, Any], content: bytes) -> tuple[bytes, str]:
    head = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": len(content)}}]}).encode()
    return head + content, str(len(head))


def test_the_open_inference_protocol_takes_bytes(endpoint: Endpoint) -> None:
    """As JSON, flat and nested, and in binary; as tritonclient and the documents have them."""
    expected = fitted().predict_proba(ASKED)
    with triton.InferenceServerClient(endpoint.url.removeprefix("http://")) as client:
        described = client.get_model_metadata("endpoint", headers=_auth())["inputs"]
        assert described == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
        for shape, binary in (([3], True), ([3, 1], True), ([3], False), ([3, 1], False)):
            tensor = triton.InferInput("text", shape, "BYTES")
            tensor.set_data_from_numpy(np.array(ASKED, object).reshape(shape), binary_data=binary)
            found = client.infer("endpoint", [tensor], headers=_auth())
            np.testing.assert_allclose(found.as_numpy("probabilities"), expected, atol=1e-6)
    nested = _open(endpoint, {"inputs": [_text(3, shape=[3, 1], data=[[text] for text in ASKED])]})
    np.testing.assert_allclose(nested.json["outputs"][0]["data"], expected.ravel(), atol=1e-6)


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (_text(1, data=[3]), "inputs.text.data.0: must be a text"),
        (_text(2, data=["oil", None]), "inputs.text.data.1: must be a text"),
        (_text(2, data=["oil"]), "there are 1 texts"),
        (_text(0, data=[]), "is empty"),
        (_text(1), "inputs.text.data: missing"),
        (_text(1, shape=[1, 2], data=["oil"]), "inputs.text.shape"),
        (_text(1, shape="1", data=["oil"]), "inputs.text.shape"),
        (_text(1, name="input", data=["oil"]), "send texts as 'text'"),
    ],
)
def test_wrong_bytes_in_json_are_named(endpoint: Endpoint, tensor: dict[str, Any], words: str) -> None:
    answer = _open(endpoint, {"inputs": [tensor]})

    assert answer.status == 422
    assert words in answer.json["error"]


@pytest.mark.parametrize(
    ("count", "content", "words"),
    [
        (1, b"\x04\0\0\0oil", "inputs.text.0: is longer"),
        (2, _bytes(b"oil") + b"\x01\0", "inputs.text.1: is longer"),
        (2, _bytes(b"oil", b"\xff"), "inputs.text.1: is not UTF-8 text"),
        (3, _bytes(b"oil", b""), "there are 2 texts"),
    ],
)
def test_wrong_binary_bytes_are_named(endpoint: Endpoint, count: int, content: bytes, words: str) -> None:
    body, json_bytes = _binary(_text(count), content)
    answer = _open(endpoint, body, inference_header_content_length=json_bytes)

    assert answer.status == 422
    assert words in answer.json["error"]


def test_a_datatype_in_disguise_is_refused(endpoint: Endpoint) -> None:
    """What decides that a request is prepared in a thread has to be seen in the body."""
    body = json.dumps({"inputs": [_text(1, data=["oil"])]}).replace("BYTES", "B\\u0059TES").encode()

    assert "escapes" in _open(endpoint, body).json["error"]


def test_counts_of_the_terms_are_taken_as_tensors_too(endpoint: Endpoint) -> None:
    vectorizer = fitted().steps[0][1]
    counts = np.zeros((1, len(vectorizer.vocabulary_)))
    counts[0, vectorizer.vocabulary_["oil"]] = 2

    found = endpoint.ask({"inputs": counts.tolist()}).json["outputs"]["probabilities"]

    np.testing.assert_allclose(found, fitted().predict_proba(["oil oil"]), atol=1e-6)
