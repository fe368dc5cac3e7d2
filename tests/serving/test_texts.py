"""Texts to a model whose package counts their terms."""

from collections.abc import Callable
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from exporters import convert, package
from exporters.request import ExportRequest
from tests.serving.conftest import Endpoint, World

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
        ({"inputs": ["oil", 3]}, "inputs.1", "no text"),
        ({"texts": ["oil", None]}, "texts.1", "no text"),
        ({"texts": []}, "texts", "not empty"),
        ({"text": ["oil"]}, "text.0", "no text"),
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


def test_counts_of_the_terms_are_taken_as_tensors_too(endpoint: Endpoint) -> None:
    vectorizer = fitted().steps[0][1]
    counts = np.zeros((1, len(vectorizer.vocabulary_)))
    counts[0, vectorizer.vocabulary_["oil"]] = 2

    found = endpoint.ask({"inputs": counts.tolist()}).json["outputs"]["probabilities"]

    np.testing.assert_allclose(found, fitted().predict_proba(["oil oil"]), atol=1e-6)
