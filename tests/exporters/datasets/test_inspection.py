"""What is said of a dataset when it is uploaded, and the command that says it in a confined process."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest

from exporters.datasets import DatasetFile, inspect
from exporters.errors import InvalidDataset, UnsupportedOption
from tests.exporters.conftest import events
from tests.exporters.datasets.test_images import coco, picture, zipped


def test_arrays_are_described_with_their_classes_and_first_rows(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    x = np.arange(24, dtype=np.float32).reshape(12, 2)
    image = np.zeros((12, 5, 5), np.uint8)
    np.savez(path, x=x, image=image, y=np.arange(12) % 3)
    found = inspect(DatasetFile(path, "npz", {"classes": ["a", "b", "c"]}))

    assert found == {
        "format": "npz",
        "task": "classification",
        "num_samples": 12,
        "inputs": [
            {"name": "x", "dtype": "float32", "shape": [12, 2]},
            {"name": "image", "dtype": "uint8", "shape": [12, 5, 5]},
        ],
        "label": {"name": "y", "dtype": "int64", "shape": [12]},
        "classes": ["a", "b", "c"],
        "class_counts": {"a": 4, "b": 4, "c": 4},
        "first_rows": [
            {"x": [2.0 * row, 2.0 * row + 1], "image": {"shape": [5, 5], "first": [0] * 16}, "y": row % 3}
            for row in range(10)
        ],
        "warnings": [],
    }
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize("format_name", ["parquet", "csv", "jsonl"])
def test_a_table_is_described_with_what_is_missing(tmp_path: Path, format_name: str) -> None:
    path = tmp_path / "data"
    table = polars.DataFrame(
        {"a": [1.5, None, 2.5], "city": ["Paris", "b" * 200, None], "target": [0.5, 1, 2]}
    )
    {"parquet": table.write_parquet, "csv": table.write_csv, "jsonl": table.write_ndjson}[format_name](path)
    found = inspect(DatasetFile(path, format_name))

    assert (found["task"], found["num_samples"], found["class_counts"]) == ("regression", 3, None)
    assert [each["dtype"] for each in found["inputs"]] == ["float64", "string"]
    assert found["first_rows"][1] == {"a": None, "city": "b" * 100 + "…", "target": 1}
    assert ["1 rows" in line for line in found["warnings"]] == [True, True]
    json.dumps(found, allow_nan=False)


def test_images_are_described_by_their_sizes(tmp_path: Path) -> None:
    path = zipped(tmp_path / "data.zip", {f"{name}/0.png": picture(30, 20) for name in ("cat", "dog")})
    found = inspect(DatasetFile(path, "images"))
    assert found["classes"] == ["cat", "dog"]
    assert found["class_counts"] == {"cat": 1, "dog": 1}
    assert found["inputs"] == [{"name": "image", "dtype": "image", "shape": [2]}]
    assert found["first_rows"][1]["label"] == "dog"
    assert {**found["first_rows"][0]["image"], "size_bytes": 0} == {
        "width": 30,
        "height": 20,
        "size_bytes": 0,
    }

    zipped(path, {"cat/0.png": picture(), "dog/0.png": b"no image"})
    with pytest.raises(InvalidDataset, match="Row 1"):
        inspect(DatasetFile(path, "images"))


def test_boxes_are_counted_by_class(tmp_path: Path) -> None:
    files = {"one.png": picture(), "two.png": picture(), "a.json": json.dumps(coco())}
    found = inspect(DatasetFile(zipped(tmp_path / "data.zip", files), "coco"))
    assert (found["task"], found["label"]["dtype"]) == ("detection", "boxes")
    assert found["class_counts"] == {"cat": 1, "dog": 1}
    assert found["first_rows"][1]["label"] == {"boxes": 2, "classes": [0, 1]}


def test_doubts_are_warnings(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, x=np.zeros((3, 2)), y=np.zeros(3, int))
    found = inspect(DatasetFile(path, "npz", {"lable": "y"}))
    assert found["warnings"] == [
        "The schema's key 'lable' is ignored. Did you mean 'label'?",
        "All rows are of one class.",
    ]
    np.savez(path, x=np.zeros((3, 2)), z=np.zeros(4))
    assert inspect(DatasetFile(path, "npz"))["warnings"] == [
        "The dataset has no label. Name its array or column in schema.label."
    ]


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    path.write_bytes(b"nothing")
    with pytest.raises(InvalidDataset, match="no zip archive"):
        inspect(DatasetFile(path, "npz"))
    with pytest.raises(UnsupportedOption, match="cannot be loaded"):
        inspect(DatasetFile(path, "other"))


def test_the_command_reads_a_dataset_in_a_confined_process(
    exporters_cli: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "data.parquet"
    polars.DataFrame({"a": [1, 2], "label": ["x", "y"]}).write_parquet(path)
    request = json.dumps({"dataset": DatasetFile(path, "parquet").to_json(), "traceparent": None})
    arguments = ("--isolate-network", "--confine", tmp_path, "--memory-bytes", 2 << 30)

    done = exporters_cli("inspect-dataset", "-", *arguments, stdin=request + "\n")
    assert done.returncode == 0, done.stderr
    ready, progress, completed = events(done.stdout)
    assert (ready["event"], progress["event"], completed["event"]) == ("ready", "progress", "completed")
    assert completed["result"]["class_counts"] == {"x": 1, "y": 1}
    assert completed["result"]["environment"]["limits"] == {"memory_bytes": 2 << 30}

    outside = json.dumps({"dataset": {"path": "/etc/passwd", "format": "csv"}})
    done = exporters_cli("inspect-dataset", "-", "--confine", tmp_path, stdin=outside + "\n")
    failed = events(done.stdout)[-1]
    assert done.returncode == 1
    if events(done.stdout)[0]["environment"]["files"] == "isolated":
        assert failed["event"] == "failed"
        assert "root" not in done.stdout

    (tmp_path / "request.json").write_text(json.dumps({"dataset": {"path": "a"}}))
    done = exporters_cli("inspect-dataset", tmp_path / "request.json")
    assert events(done.stdout)[-1]["code"] == "unsupported_option"
