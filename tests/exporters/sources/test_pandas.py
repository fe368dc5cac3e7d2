"""Columns as people name them with pandas, which the converter does not have."""

import io
import pickle
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import skops.io
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from exporters.convert import run
from exporters.errors import UnsafeCheckpoint
from exporters.request import ExportRequest
from exporters.sources import pickle_gate
from tests.exporters.text_columns import frame, kinds

_INDEX = (
    b"\x80\x04\x8c\x18pandas.core.indexes.base\x8c\n_new_Index\x93"
    b"\x8c\x06pandas\x8c\x05Index\x93}(\x8c\x04data"
)
_ARRAY = (
    b"\x8c\x16numpy._core.multiarray\x8c\x0c_reconstruct\x93"
    b"\x8c\x05numpy\x8c\x07ndarray\x93K\x00\x85C\x01b\x87R"
)
_SHAPE = b"(K\x01K\x02\x85"
_DTYPE = (
    b"\x8c\x05numpy\x8c\x05dtype\x93\x8c\x02%s\x89\x88\x87R"
    b"(K\x03\x8c\x01%sNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK%stb\x89"
)
_OBJECTS = _ARRAY + _SHAPE + _DTYPE % (b"O8", b"|", b"?")
_NAMES = _OBJECTS + b"](\x8c\x01a\x8c\x01betb"
_NUMBERS = (
    _ARRAY + _SHAPE + _DTYPE % (b"i8", b"<", b"\x00") + b"C\x10" + np.array([1, 2], "<i8").tobytes() + b"tb"
)
_TEXTS = (
    b"\x8c\x13pandas._libs.arrays\x8c\x1c__pyx_unpickle_NDArrayBacked\x93"
    b"\x8c\rpandas.arrays\x8c\x0bStringArray\x93J\x1f\x06\xf1\x04N\x87R\x8c\x06pandas\x8c\x0bStringDtype\x93\x8c\x06python"
    b"G\x7f\xf8\x00\x00\x00\x00\x00\x00\x86R%s\x86b"
)
_END = b"\x8c\x04nameNu\x86R."


@pytest.mark.parametrize(
    ("data", "columns"),
    [(_NAMES, ["a", "b"]), (_TEXTS % _NAMES, ["a", "b"]), (_NUMBERS, [1, 2])],
    ids=["objects, as pandas 2 writes", "texts, as pandas 3 writes", "positions"],
)
def test_an_index_is_a_list_of_columns(data: bytes, columns: list[Any]) -> None:
    """The bytes are what pandas 3.1.1 writes, without the memo."""
    assert pickle_gate.load(io.BytesIO(_INDEX + data + _END)) == columns


@pytest.mark.parametrize(
    "data",
    [
        _OBJECTS + b"](\x8c\x01aK\x01etb",
        _OBJECTS + b"](\x8c\x01a]etb",
        _TEXTS % b"N",
        b"N",
        b"]",
    ],
    ids=["names and numbers", "lists", "another state", "nothing", "a list"],
)
def test_an_index_of_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(UnsafeCheckpoint, match=r"an (index|array) of pandas"):
        pickle_gate.load(io.BytesIO(_INDEX + data + _END))


@pytest.mark.parametrize("name", [b"DataFrame", b"read_pickle"])
def test_other_objects_of_pandas_are_refused_with_what_to_do(name: bytes) -> None:
    with pytest.raises(
        UnsafeCheckpoint, match=r"Pass plain values when you fit it, such as list\(frame\.columns\)"
    ):
        pickle_gate.load(io.BytesIO(b"\x80\x04\x8c\x06pandas\x8c" + bytes([len(name)]) + name + b"\x93."))


@pytest.mark.parametrize("suffix", ["joblib", "skops"])
def test_a_selector_of_columns_is_exported(suffix: str, tmp_path: Path) -> None:
    columns = ColumnTransformer(
        [("numbers", StandardScaler(), ["stars"]), ("shop", OneHotEncoder(handle_unknown="ignore"), ["shop"])]
    )
    model = make_pipeline(columns, LogisticRegression()).fit(frame(), kinds())
    selector = make_column_selector(dtype_include=np.number)  # takes frames of pandas alone
    columns.transformers = [("numbers", StandardScaler(), selector), columns.transformers[1]]
    path = tmp_path / f"model.{suffix}"
    (joblib.dump if suffix == "joblib" else skops.io.dump)(model, path)

    result = run(ExportRequest(path, tmp_path / "package", "onnx"))

    assert result.verdict == "verified"


def test_a_selector_has_no_attribute_in_place_of_a_method() -> None:
    selector = make_column_selector()
    selector.__dict__["__call__"] = "code"

    with pytest.raises(UnsafeCheckpoint, match="replaces a method"):
        pickle_gate.load(io.BytesIO(pickle.dumps(selector)))
