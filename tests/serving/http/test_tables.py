"""Rows with named columns: records, CSV and Parquet; missing values; a wrong column is named."""

import contextlib
import datetime
import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest

from exporters import convert, package
from exporters.processing.table import ColumnError
from exporters.request import ExportRequest
from model_service.serving.protocols.parquet import read
from model_service.serving.protocols.parquet_pages import unpacked_bytes
from tests.exporters.tables import fitted, frame, save
from tests.serving.conftest import KEY, Endpoint, World

ROWS = frame(200)[40:48].drop("note")
NAMES = ["size", "income", "city", "age"]


@pytest.fixture(scope="module")
def table_zip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("table")
    source = save(folder / "model.joblib")
    convert.run(ExportRequest(source, folder / "package", "onnx", {}))
    package.pack(folder / "package", folder / "package.zip")
    return (folder / "package.zip").read_bytes()


@pytest.fixture
def endpoint(world: World, table_zip: bytes, listen: Callable[..., Endpoint]) -> Endpoint:
    deployment_id = world.deploy(table_zip)
    return listen(world.serving(deployment_id), deployment_id)


def records() -> list[dict[str, Any]]:
    return [
        {name: None if row[name] != row[name] else row[name] for name in NAMES} for row in ROWS.to_dicts()
    ]


def parquet() -> bytes:
    file = io.BytesIO()
    ROWS.select(NAMES).write_parquet(file)
    return file.getvalue()


def test_every_form_is_answered_as_the_model_answers_the_data_frame(endpoint: Endpoint) -> None:
    expected = fitted().predict_proba(ROWS.with_columns(note=polars.lit("")))
    assert any(record["income"] is None for record in records())
    split = {"columns": NAMES, "data": [list(record.values()) for record in records()]}
    text = ROWS.select(NAMES).fill_nan(None).write_csv().encode()
    with_nan = str(records()).replace("'", '"').replace("None", "NaN")
    answers = [
        endpoint.ask({"records": records()}),
        endpoint.ask({"dataframe_records": records()}),
        endpoint.ask({"dataframe_split": split}),
        endpoint.ask(text, content_type="text/csv; charset=utf-8"),
        endpoint.ask(parquet(), content_type="application/vnd.apache.parquet"),
        endpoint.ask(f'{{"records": {with_nan}}}'.encode()),
    ]
    for answer in answers:
        assert answer.status == 200, answer.data
        np.testing.assert_allclose(answer.json["outputs"]["probabilities"], expected, atol=1e-6)
    unknown = endpoint.ask({"records": [{**records()[0], "city": "Oslo"}]})
    assert unknown.status == 200


RECORD = {"age": 30, "city": "Nice", "income": 7.5, "size": "M"}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"records": [RECORD | {"town": "Nice"}]}, "records.town"),
        ({"records": [RECORD, {"city": "Nice", "income": 1, "size": "M"}]}, "records.age"),
        ({"records": [RECORD | {"age": None}]}, "records.age"),
        ({"records": [RECORD | {"age": "thirty"}]}, "records.age"),
        ({"records": [RECORD | {"size": "XL"}]}, "records.size"),
        ({"dataframe_split": {"columns": ["age"], "data": [[1]]}}, "dataframe_split.city"),
        ({"dataframe_split": [RECORD]}, "dataframe_split"),
        ({"records": []}, "records"),
        ({"records": "age"}, "records"),
        ({"parquet": "UEFSMQ=="}, "parquet"),
    ],
)
def test_a_wrong_column_is_a_422_that_names_it(endpoint: Endpoint, body: Any, field: str) -> None:
    answer = endpoint.ask(body)
    assert (answer.status, answer.json["error"]["code"]) == (422, "invalid_field")
    assert [found["field"] for found in answer.json["error"]["details"]["fields"]] == [field]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"age,city\n1\n", "text/csv"),
        (b"\xff\xfe", "text/csv"),
        (b"", "text/csv"),
        (b"PAR1 and nothing else PAR1", "application/vnd.apache.parquet"),
        (parquet()[:-10], "application/x-parquet"),
    ],
)
def test_a_damaged_table_is_the_callers_mistake(endpoint: Endpoint, body: bytes, kind: str) -> None:
    assert endpoint.ask(body, content_type=kind).status in (400, 422)


def as_parquet(values: list[Any], dtype: Any = None) -> bytes:
    file = io.BytesIO()
    polars.DataFrame({"a": polars.Series(values, dtype=dtype)}).write_parquet(file)
    return file.getvalue()


@pytest.mark.parametrize("dtype", [polars.String, polars.Categorical])
def test_parquet_of_texts_that_are_larger_than_a_body(dtype: Any) -> None:
    body = as_parquet(["x" * 1000] * 100, dtype)
    assert len(body) < 2000
    assert read(body, 100_000)["a"].to_list() == ["x" * 1000] * 100
    with pytest.raises(ValueError, match="texts have 100,000 bytes, more than 99,999"):
        read(body, 99_999)


def test_parquet_that_unpacks_to_more_than_a_body() -> None:
    body = as_parquet([str(row) + "x" * 10_000 for row in range(100)])
    assert len(body) < 20_000
    assert 1_000_000 < unpacked_bytes(body) < 1_010_000
    with pytest.raises(ValueError, match="unpacked file has"):
        read(body, 1_000_000)


@pytest.mark.parametrize("compression", ["uncompressed", "snappy", "gzip"])
def test_all_pages_of_all_columns_are_counted(compression: Any) -> None:
    """8 bytes a number, and 5 + 4 for the length of a text."""
    file = io.BytesIO()
    table = polars.DataFrame({"a": range(10_000, 30_000), "b": [str(n) for n in range(10_000, 30_000)]})
    table.write_parquet(file, compression=compression, row_group_size=5000, data_page_size=8000)
    assert 20_000 * 17 < unpacked_bytes(file.getvalue()) < 20_000 * 18


@pytest.mark.parametrize("kind", [7, 12])
def test_reading_the_headers_is_bounded(kind: int) -> None:
    """A list of 2^40 doubles or of empty structs."""
    footer = b"\x19" + bytes([0xF0 | kind]) + b"\x80" * 5 + b"\x20" + b"\0" * 3_000_000
    with pytest.raises(ValueError, match=r"damaged|too many"):
        unpacked_bytes(b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1")


def test_damaged_headers_of_pages_are_a_value_error() -> None:
    dice = random.Random(7)
    for _ in range(500):
        body = bytearray(parquet())
        for _ in range(dice.randint(1, 8)):
            body[dice.randrange(len(body))] = dice.randrange(256)
        with contextlib.suppress(ValueError):
            assert unpacked_bytes(bytes(body)) >= 0


@pytest.mark.parametrize("value", [[0] * 10_000, {"b": 1}, b"x"])
def test_parquet_of_lists_objects_or_bytes_names_the_column(value: Any) -> None:
    with pytest.raises(ColumnError, match="send numbers or texts") as refusal:
        read(as_parquet([value]), 1 << 20)
    assert refusal.value.column == "a"


def test_parquet_takes_numbers_texts_and_columns_of_nulls() -> None:
    for values in ([1], [1.5, None], [True], ["x", None], [None], [datetime.date(2026, 1, 1)]):
        assert read(as_parquet(values), 1000)["a"].to_list() == values


def test_a_refused_body_is_answered_with_the_cause(endpoint: Endpoint) -> None:
    for body, field in ((as_parquet([[1]]), "parquet.a"), (as_parquet(["x" * 1000] * 101), "parquet")):
        answer = endpoint.ask(body, content_type="application/x-parquet")
        assert (answer.status, answer.json["error"]["details"]["fields"][0]["field"]) == (422, field)
    answer = endpoint.ask(b'{"records": [NaN], "\\ud800": 1}')
    assert (answer.status, answer.json["error"]["code"]) == (400, "invalid_json")


def test_a_model_without_named_columns_takes_no_records(served: Endpoint) -> None:
    answer = served.ask({"records": [{"x": 1}]})
    assert answer.status == 422
    assert "no names" in answer.json["error"]["message"]


def test_null_is_a_missing_value_where_the_model_takes_them(
    world: World, listen: Callable[..., Endpoint], tmp_path: Path
) -> None:
    import joblib
    from sklearn.tree import DecisionTreeClassifier

    x = np.array([[0], [1], [2], [np.nan], [np.nan]])
    joblib.dump(DecisionTreeClassifier(random_state=0).fit(x, [0, 0, 1, 0, 0]), tmp_path / "m.joblib")
    convert.run(ExportRequest(tmp_path / "m.joblib", tmp_path / "package", "onnx", {}))
    package.pack(tmp_path / "package", tmp_path / "package.zip")
    deployment_id = world.deploy((tmp_path / "package.zip").read_bytes())
    endpoint = listen(world.serving(deployment_id), deployment_id)
    for body in (b'{"inputs": [[null], [2.0]]}', b'{"inputs": {"input": [[NaN], [2]]}}'):
        answer = endpoint.ask(body)
        assert answer.status == 200, answer.data
        assert answer.json["outputs"]["label"] == [0, 1]
    asked = {"inputs": [{"name": "input", "datatype": "FP32", "shape": [2, 1], "data": [None, 2]}]}
    headers = {"Authorization": f"Bearer {KEY}"}
    found = endpoint.pool.request(
        "POST", f"{endpoint.url}/v2/models/endpoint/infer", json=asked, headers=headers
    ).json()
    labels = next(one for one in found["outputs"] if one["name"] == "label")
    assert labels["data"] == [0, 1]
