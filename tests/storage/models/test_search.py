"""What the search stores beside a document, and that its keys sort like what they stand for."""

import struct

import pytest
from bson import ObjectId
from hypothesis import given
from hypothesis import strategies as st

from model_service.storage.models import search
from model_service.storage.models.search import (
    derived_fields,
    metric_at_least,
    metric_at_most,
    metric_key,
    words,
)
from tests.factories import Document

NUMBERS = st.floats(allow_nan=False) | st.integers(-(2**63), 2**63 - 1)
IDS = st.binary(min_size=12, max_size=12).map(ObjectId)


def document(**fields: object) -> Document:
    return {"_id": ObjectId(), "name": "m", "metrics": {}, **fields}


@given(NUMBERS, NUMBERS, IDS, IDS)
def test_metric_keys_sort_by_the_number_then_by_the_id(
    a: float, b: float, a_id: ObjectId, b_id: ObjectId
) -> None:
    one, other = (float(a), a_id), (float(b), b_id)
    assert (metric_key(*one) < metric_key(*other)) == (one < other)
    assert (metric_key(*one) == metric_key(*other)) == (one == other)


@given(NUMBERS, IDS)
def test_the_bounds_of_a_number_hold_each_of_its_keys(number: float, model_id: ObjectId) -> None:
    assert metric_at_least(number) <= metric_key(number, model_id) <= metric_at_most(number)
    assert metric_at_most(-1.0) < metric_at_least(-0.0) == metric_at_least(0.0)
    assert len(metric_key(number, model_id)) == 20


def test_only_finite_numbers_of_a_name_are_metrics() -> None:
    metrics = {
        "accuracy": 1,
        "val": {"loss": 0.25, "deep": {"x": -3}},
        "flat.dots": 2.0,
        "$odd%": 4,
        "": 5,
        "yes": True,
        "text": "0.5",
        "nan": float("nan"),
        "none": None,
        "list": [1, 2],
    }
    keys = derived_fields(document(metrics=metrics))["metric_order"]
    assert set(keys) == {
        "accuracy",
        "val%2Eloss",
        "val%2Edeep%2Ex",
        "flat%2Edots",
        "%24odd%25",
        "%",
    }
    assert (
        struct.unpack(">Q", keys["val%2Eloss"][:8])[0] ^ (1 << 63)
        == struct.unpack(">Q", struct.pack(">d", 0.25))[0]
    )


def test_what_is_stored_has_a_bound() -> None:
    many = {f"m{number}": number for number in range(search.MAX_METRICS + 50)}
    text = " ".join(f"uniqueword{number}" for number in range(search.MAX_TERMS + 50))
    stored = derived_fields(document(name="kept", metrics=many, description=text))
    assert len(stored["metric_order"]) == search.MAX_METRICS
    assert len(stored["terms"]) == search.MAX_TERMS
    assert "kept" in stored["terms"]
    endless = derived_fields(document(metrics={"x" * 5000: 1}, description="y" * 5000))
    assert endless["metric_order"] == {}
    assert max(map(len, endless["terms"])) <= search.MAX_TERM_CHARS


def test_test_accuracy_is_the_accuracy_where_there_is_no_other() -> None:
    keys = derived_fields(document(metrics={"test_accuracy": 0.5}))["metric_order"]
    assert keys["accuracy"] == keys["test_accuracy"]
    own = derived_fields(document(metrics={"test_accuracy": 0.5, "accuracy": 0.7}))["metric_order"]
    assert own["accuracy"] > own["test_accuracy"]


@pytest.mark.parametrize(
    ("text", "stems"),
    [
        ("Detecting the frauds", ["detect", "fraud"]),
        ("fraud_detection-v2.1", ["fraud", "detect", "v2", "1"]),
        ("vision/YOLO", ["vision", "yolo"]),
        ("Größe  GRÖSSE", ["grösse"]),
        ("ﬁne ﬁne", ["fine"]),
        ("the of !! __", []),
        ("$where: {'$gt': ''}", ["where", "gt"]),
    ],
)
def test_words_are_stems_without_case_and_compounds_are_their_parts(text: str, stems: list[str]) -> None:
    assert words(text) == stems


def test_terms_are_of_every_field_people_search_for() -> None:
    fields = {
        "name": "team/alpha",
        "algorithm": "beta",
        "framework": "gamma",
        "task_type": "delta",
        "created_by": "epsilon",
        "tags": ["zeta", "eta-theta"],
        "description": "iota kappa",
    }
    expected = {
        word
        for text in ("team alpha beta gamma delta epsilon zeta eta theta iota kappa",)
        for word in words(text)
    }
    assert derived_fields(document(**fields))["terms"] == sorted(expected)
    assert derived_fields(document(framework=None, description=None))["terms"] == ["m"]
