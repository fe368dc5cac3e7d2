"""Models that were fitted on data frames: columns by name, strings, missing values, unknown categories."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import polars
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

from exporters import runners
from exporters.convert import run
from exporters.errors import InvalidSource
from exporters.processing.table import ColumnError, Table
from exporters.request import ExportRequest
from exporters.sources import tables

from .tables import fitted, frame, save


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tables")
    source = save(folder / "model.joblib")
    for name in ("onnx", "pickle"):
        assert run(ExportRequest(source, folder / name, name, {})).verdict == "verified"
    return {name: folder / name for name in ("onnx", "pickle")}


def test_numbers_beside_strings_stay_numbers(tmp_path: Path) -> None:
    """An array of strings and numbers is one of objects, which compiled code behind the columns rejects."""
    table = frame()
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    model = make_pipeline(
        ColumnTransformer([("codes", codes, ["city", "size"]), ("rest", "passthrough", ["age", "income"])]),
        HistGradientBoostingClassifier(max_iter=3),
    ).fit(table, (table["age"] > 50).to_numpy().astype(int))
    joblib.dump(model, tmp_path / "model.joblib")

    assert run(ExportRequest(tmp_path / "model.joblib", tmp_path / "onnx", "onnx")).verdict == "verified"

    rows = Table(metadata(tmp_path / "onnx")["table"]).rows(table)
    answer = runners.load(tmp_path / "onnx").predict({"input": rows})
    np.testing.assert_allclose(answer["probabilities"], model.predict_proba(table), atol=1e-6)


def metadata(folder: Path) -> Any:
    return json.loads((folder / "metadata.json").read_bytes())


@pytest.mark.parametrize("name", ["onnx", "pickle"])
def test_the_package_answers_as_the_model_does_to_the_data_frame(
    packages: dict[str, Path], name: str
) -> None:
    asked = frame(60).with_columns(
        polars.when(polars.int_range(60) % 5 == 0)
        .then(polars.lit("Oslo"))
        .otherwise(polars.col("city"))
        .alias("city")
    )
    document = metadata(packages[name])
    rows = Table(document["table"]).rows(asked, document["input_spec"]["dtype"])
    answer = runners.load(packages[name]).predict({"input": rows})
    np.testing.assert_allclose(answer["probabilities"], fitted().predict_proba(asked), atol=1e-6)


def test_metadata_has_the_columns(packages: dict[str, Path]) -> None:
    columns = metadata(packages["onnx"])["table"]["columns"]
    assert [tuple(column.values()) for column in columns] == [
        ("age", "number", None, False, False),
        ("city", "string", ["Lyon", "Nice", "Paris"], True, True),
        ("income", "number", None, True, False),
        ("size", "string", ["S", "M", "L"], False, False),
        ("note", "unused", None, True, False),
    ]
    probes = json.loads((packages["onnx"] / "fidelity.json").read_bytes())["probes"]
    assert {"categories", "unknown categories", "missing"} <= set(probes)


RECORD = {"age": 30, "city": "Nice", "income": 7.5, "size": "M"}


def test_every_form_of_a_table_gives_the_same_rows(packages: dict[str, Path]) -> None:
    table = Table(metadata(packages["onnx"])["table"])
    expected = [[30.0, 1.0, 7.5, 1.0, 0.0], [31.0, -1.0, np.nan, 2.0, 0.0]]
    second = {"size": "L", "income": None, "city": "Oslo", "age": 31, "note": "ignored"}
    forms: list[Any] = [
        [RECORD, second],
        {
            "columns": ["city", "size", "age", "income"],
            "data": [["Nice", "M", 30, 7.5], ["Oslo", "L", 31, None]],
        },
        "income,age,size,city\n7.5,30,M,Nice\n,31,L,Oslo\n",
        "\ufeffincome,age,size,city\r\n7.5,30,M,Nice\r\nNaN,31,L,Oslo\r\n".encode(),
        polars.DataFrame(
            {"income": [7.5, None], "age": [30, 31], "size": ["M", "L"], "city": ["Nice", "Oslo"]}
        ),
    ]
    for form in forms:
        np.testing.assert_array_equal(table.rows(form), np.array(expected, np.float32))
    np.testing.assert_array_equal(table.rows(RECORD), np.array(expected[:1], np.float32))


@pytest.mark.parametrize(
    ("changed", "column", "what"),
    [
        ({"town": "Nice"}, "town", "is unknown"),
        ({"city": ...}, "city", "is missing"),
        ({"age": None}, "age", "missing value"),
        ({"age": float("nan")}, "age", "missing value"),
        ({"age": "thirty"}, "age", "takes numbers"),
        ({"age": [1]}, "age", "takes numbers"),
        ({"age": 10**400}, "age", "integer"),
        ({"age": 1e300}, "age", "a number that float32 cannot hold"),
        ({"size": "XL"}, "size", "not one of the model's categories"),
        ({"size": 2}, "size", "takes texts"),
    ],
)
def test_a_wrong_column_is_named(packages: dict[str, Path], changed: Any, column: str, what: str) -> None:
    record = {name: value for name, value in (RECORD | changed).items() if value is not ...}
    with pytest.raises(ColumnError, match=what) as refusal:
        Table(metadata(packages["onnx"])["table"]).rows([RECORD, record])
    assert refusal.value.column == column


@pytest.mark.parametrize("data", [[], [1], 7, "", "age\n", {"columns": "age", "data": []}, "age,age\n1,2\n"])
def test_what_is_no_table_is_a_value_error(packages: dict[str, Path], data: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        Table(metadata(packages["onnx"])["table"]).rows(data)


def test_infinity_is_given_as_it_is(packages: dict[str, Path]) -> None:
    rows = Table(metadata(packages["onnx"])["table"]).rows([RECORD | {"age": float("inf")}])
    assert rows[0, 0] == np.inf


@pytest.mark.parametrize("text", ["a\n" + "," * 2_000_000, b"\n" * 2_000_001])
def test_csv_has_at_most_two_million_cells(packages: dict[str, Path], text: str | bytes) -> None:
    with pytest.raises(ValueError, match="more than 2,000,000 cells: send fewer rows"):
        Table(metadata(packages["onnx"])["table"]).rows(text)


def test_the_python_wrapper_takes_records_and_csv(packages: dict[str, Path], tmp_path: Path) -> None:
    folder = packages["onnx"]
    (tmp_path / "rows.csv").write_text("city,age,income,size\nNice,30,7.5,M\n")
    code = (
        "import json, sys; from model_wrapper import ModelWrapper\n"
        f"answer = ModelWrapper().predict_table([{RECORD!r}])\n"
        "print(json.dumps({name: array.tolist() for name, array in answer.items()}))"
    )
    runtime = folder / "runtimes/python"
    found = subprocess.run(
        [sys.executable, "-B", "-c", code], cwd=runtime, capture_output=True, text=True, check=True
    )
    command = [sys.executable, "-B", "model_wrapper.py", str(tmp_path / "rows.csv"), "--replay"]
    told = subprocess.run(command, cwd=runtime, capture_output=True, text=True, check=True).stdout
    first, last = told.splitlines()
    assert json.loads(first)["outputs"] == json.loads(found.stdout)
    assert last == "replay: passed"


def test_two_orders_of_one_columns_categories_are_refused_with_the_cause() -> None:
    columns = ColumnTransformer(
        [
            ("first", OrdinalEncoder(categories=[["S", "M", "L"]]), ["size"]),
            ("second", OrdinalEncoder(categories=[["L", "M", "S"]]), ["size"]),
        ]
    )
    table = polars.DataFrame({"size": ["S", "M", "L"] * 5})
    with pytest.raises(InvalidSource, match=r"'size'.*different orders"):
        tables.of(make_pipeline(columns, LogisticRegression()).fit(table, [0, 1, 1] * 5))


def test_an_encoder_alone_and_columns_of_numbers_need_no_column_transformer() -> None:
    table = polars.DataFrame({"city": ["Nice", "Paris"] * 5, "size": ["S", "M", "L", "S", "M"] * 2})
    model = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(table, [0, 1] * 5)
    found = tables.of(model)
    assert found is not None
    assert found.texts == (("Nice", "Paris"), ("L", "M", "S"))
    codes = np.array([[0.0, 2.0], [1.0, 1.0]])
    np.testing.assert_array_equal(
        found.program.predict_proba(codes),
        model.predict_proba(polars.DataFrame({"city": ["Nice", "Paris"], "size": ["S", "M"]})),
    )
