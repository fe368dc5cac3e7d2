"""Parquet, CSV and JSON lines as a model's input, read by columns in pieces."""

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest

from exporters.base import TensorSpec
from exporters.datasets import DatasetFile, open_dataset, open_reader
from exporters.datasets.base import Dataset
from exporters.errors import InvalidDataset

from ..memory import peak_bytes

FORMATS = ("parquet", "csv", "jsonl")
X = TensorSpec("x", "float32", ("batch", 3))


def written(frame: polars.DataFrame, path: Path, format_name: str) -> Path:
    {"parquet": frame.write_parquet, "csv": frame.write_csv, "jsonl": frame.write_ndjson}[format_name](path)
    return path


def opened(path: Path, format_name: str, *inputs: TensorSpec, schema: Any = None, **options: Any) -> Dataset:
    return open_dataset(DatasetFile(path, format_name, schema or {}), inputs or (X,), **options)


def frame(rows: int = 50) -> polars.DataFrame:
    random = np.random.default_rng(0)
    return polars.DataFrame(
        {
            "width": random.standard_normal(rows),
            "label": ["cat" if number % 3 else "dog" for number in range(rows)],
            "count": random.integers(0, 9, rows),
            "open": random.integers(0, 2, rows).astype(bool),
        }
    )


@pytest.mark.parametrize("format_name", FORMATS)
def test_all_columns_but_the_label_are_the_input_in_their_order(tmp_path: Path, format_name: str) -> None:
    table = frame()
    data = opened(written(table, tmp_path / "data", format_name), format_name)
    batches = list(data.batches(20))

    assert (data.size, data.task, data.classes) == (50, "classification", ["cat", "dog"])
    wanted = table.drop("label").cast(polars.Float64).to_numpy().astype(np.float32)
    np.testing.assert_array_equal(np.concatenate([batch.inputs["x"] for batch in batches]), wanted)
    labels = np.concatenate([batch.labels for batch in batches])
    assert labels.tolist() == [0 if name == "cat" else 1 for name in table["label"]]


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_table_that_is_read_in_many_pieces_arrives_whole(
    tmp_path: Path, format_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporters.datasets.tables._ROWS", 7)
    table = frame(100)
    data = opened(written(table, tmp_path / "data", format_name), format_name)

    widths = table["width"].to_numpy().astype(np.float32)
    for at_most in (None, 5, 60):
        batches = list(data.batches(16, at_most=at_most, seed=1))
        rows = np.concatenate([batch.rows for batch in batches])
        assert len(rows) == (at_most or 100)
        np.testing.assert_array_equal(np.concatenate([b.inputs["x"][:, 0] for b in batches]), widths[rows])


@pytest.mark.parametrize("format_name", FORMATS)
def test_columns_are_chosen_by_the_schema(tmp_path: Path, format_name: str) -> None:
    path = written(frame(), tmp_path / "data", format_name)
    two = TensorSpec("x", "float32", ("batch", 2))
    schema = {"inputs": {"x": ["count", "open"]}, "label": "width"}
    data = opened(path, format_name, two, schema=schema)
    (batch,) = data.batches(100)
    assert data.task == "regression"
    np.testing.assert_array_equal(batch.inputs["x"], frame()[["count", "open"]].to_numpy().astype(np.float32))
    np.testing.assert_allclose(batch.labels[:, 0], frame()["width"].to_numpy())


@pytest.mark.parametrize("format_name", ["parquet", "jsonl"])
def test_lists_of_numbers_are_arrays(tmp_path: Path, format_name: str) -> None:
    values = np.random.default_rng(0).standard_normal((9, 2, 3))
    table = polars.DataFrame({"image": values.tolist(), "y": list(range(9))})
    spec = TensorSpec("image", "float32", ("batch", 2, 3))
    (batch,) = opened(written(table, tmp_path / "data", format_name), format_name, spec).batches(10)
    np.testing.assert_array_equal(batch.inputs["image"], values.astype(np.float32))

    ragged = polars.DataFrame({"image": [[1.0, 2.0], [1.0]], "y": [0, 1]})
    flat = TensorSpec("image", "float32", ("batch", 2))
    with pytest.raises(InvalidDataset, match="lists of the column 'image'"):
        list(opened(written(ragged, tmp_path / "ragged", format_name), format_name, flat).batches(10))


@pytest.mark.parametrize("format_name", FORMATS)
def test_missing_numbers_are_nan_and_refused_unless_the_model_takes_them(
    tmp_path: Path, format_name: str
) -> None:
    table = polars.DataFrame({"a": [1, None, 3], "b": [0.5, 1.5, None], "c": [1, 2, 3], "y": [0, 1, 0]})
    path = written(table, tmp_path / "data", format_name)
    with pytest.raises(InvalidDataset, match="Row 1 of the dataset has NaN"):
        list(opened(path, format_name).batches(10))
    (batch,) = opened(path, format_name, missing=True).batches(10)
    np.testing.assert_array_equal(
        batch.inputs["x"], np.array([[1, 0.5, 1], [np.nan, 1.5, 2], [3, np.nan, 3]])
    )


def test_rows_without_a_label_are_refused(tmp_path: Path) -> None:
    for y in ([0, 1, None], ["a", "b", None]):
        table = polars.DataFrame({"a": [1, 2, 3], "y": y})
        path = written(table, tmp_path / "data", "jsonl")
        with pytest.raises(InvalidDataset, match="missing"):
            opened(path, "jsonl", TensorSpec("x", "float32", ("batch", 1)))


def test_an_encoder_gets_the_columns_that_the_model_names(tmp_path: Path) -> None:
    path = written(frame(6), tmp_path / "data", "csv")
    seen: list[dict[str, Any]] = []

    def encode(columns: dict[str, Any]) -> dict[str, Any]:
        seen.append(columns)
        return {"x": np.zeros((len(columns["label"]), 3), np.float32)}

    data = opened(
        path,
        "csv",
        schema={"label": "open"},
        columns=["label", "width"],
        encode=encode,
        task_type="classifier",
    )
    assert len(list(data.batches(4))) == 2
    assert list(seen[0]) == ["label", "width"]
    assert seen[0]["label"].tolist() == ["dog", "cat", "cat", "dog"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"a,b,c,y\n1,2,3\n", "cannot be read|missing|no rows|class"),
        (b"a,b,c,y\n1,2,x,0\n1,2,y,1\n", "takes numbers"),
        (b"a,b,c,y\n", "no rows"),
        (b"PAR1 is no table", "cannot be read"),
        (b'{"a": 1}\n{"a": ', "cannot be read|no label"),
        (gzip.compress(b"a,b,c,y\n1,2,3,4\n", mtime=0), "compressed"),
        (b"\xff\xfe\x00,y\n1,2\n", "cannot be read|no label|has the shape"),
        (b"a,b,y\n1,2,0\n1,2,1\n", r"\[rows, 2\]"),
    ],
)
def test_an_unreadable_table_is_told(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "data"
    path.write_bytes(content)
    with pytest.raises(InvalidDataset, match=words):
        list(opened(path, "csv").batches(10))


@pytest.mark.parametrize("separator", [";", "\t"])
def test_other_separators_are_recognised(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "data.csv"
    frame(5).write_csv(path, separator=separator)
    assert opened(path, "csv").size == 5


# Reads a table in a process whose memory is limited.
_READ = """
import sys
from pathlib import Path
from exporters.base import TensorSpec
from exporters.datasets import DatasetFile, open_dataset
from exporters.sandbox import limits
limits.apply({"memory_bytes": 512 << 20})
data = open_dataset(DatasetFile(Path(sys.argv[1]), sys.argv[2]), [TensorSpec("x", "float32", ("batch", 2))])
print(sum(float(batch.inputs["x"].sum()) for batch in data.batches(4096, at_most=1_000_000)))
"""


def test_a_small_parquet_of_many_equal_rows_is_read_in_little_memory(tmp_path: Path) -> None:
    rows = 20_000_000
    zeros = polars.zeros(rows, polars.Int64, eager=True)
    labels = polars.select(polars.arange(rows) >= rows // 2).to_series().cast(polars.Int64)
    path = tmp_path / "data.parquet"
    polars.DataFrame({"a": zeros, "b": zeros + 1, "y": labels}).write_parquet(path, row_group_size=rows)
    assert path.stat().st_size < 10_000_000
    done = subprocess.run(
        [sys.executable, "-c", _READ, path, "parquet"], capture_output=True, text=True, timeout=250
    )
    assert (done.returncode, done.stdout) == (0, "1000000.0\n"), done.stderr


def test_one_long_text_takes_its_own_memory_and_not_that_of_every_row(tmp_path: Path) -> None:
    texts = [*("short" for _ in range(2000)), "a" * 100_000]
    path = written(polars.DataFrame({"text": texts}), tmp_path / "data", "parquet")
    reader = open_reader(DatasetFile(path, "parquet"))
    found: list[str] = []

    def read_texts() -> None:
        for _, piece in reader.pieces(["text"]):
            found.extend(piece["text"])

    assert peak_bytes(read_texts) < 50e6  # 2,001 rows of the longest text are 800 MB
    assert found == texts


@pytest.mark.parametrize("format_name", FORMATS)
def test_long_texts_are_read_in_pieces_of_few_rows(
    tmp_path: Path, format_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporters.datasets.tables.PIECE_BYTES", 10_000)
    texts = [f"row{number:02}" * (number % 400) or None for number in range(90)]
    path = written(polars.DataFrame({"text": texts, "y": range(90)}), tmp_path / "data", format_name)
    reader = open_reader(DatasetFile(path, format_name))
    for chosen in (None, np.array([3, 40, 41, 89])):
        pieces = list(reader.pieces(["text", "y"], chosen))
        assert all(sum(len(text or "") for text in piece["text"]) < 12_000 for _, piece in pieces)
        rows = np.concatenate([rows for rows, _ in pieces]).tolist()
        assert rows == (list(range(90)) if chosen is None else chosen.tolist())
        assert [text for _, piece in pieces for text in piece["text"]] == [texts[row] for row in rows]
        assert [number for _, piece in pieces for number in piece["y"]] == rows


def test_a_large_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    rows = [{"text": "a" * size, "y": place} for place, size in enumerate((10, 200_000))]
    path.write_text("\n".join(map(json.dumps, rows)))
    data = opened(path, "jsonl", encode=lambda columns: {"x": np.zeros((2, 3), np.float32)})
    with pytest.raises(InvalidDataset, match="text of more than 100,000 bytes"):
        list(data.batches(10))
