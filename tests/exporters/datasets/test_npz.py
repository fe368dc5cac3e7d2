"""Arrays of an ``.npz`` as a model's inputs: what fits, what is refused, and how much memory it takes."""

import io
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from exporters.base import TensorSpec
from exporters.datasets import DatasetFile, open_dataset
from exporters.datasets.base import Batch, Dataset
from exporters.errors import InvalidDataset, UnsupportedOption

X = TensorSpec("x", "float32", ("batch", 4))
GIB = 1 << 30


def saved(path: Path, compressed: bool = False, **arrays: npt.NDArray[Any]) -> Path:
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    return path


def opened(path: Path, *inputs: TensorSpec, schema: dict[str, Any] | None = None, **options: Any) -> Dataset:
    return open_dataset(DatasetFile(path, "npz", schema or {}), inputs or (X,), **options)


def rows(count: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, 4)).astype(np.float32)


def together(batches: list[Batch]) -> npt.NDArray[Any]:
    return np.concatenate([batch.inputs["x"][: len(batch)] for batch in batches])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data.npz"


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("form", ["c", "fortran", "big-endian", "float64", "fortran big-endian"])
def test_rows_arrive_in_batches_as_they_were_saved(path: Path, compressed: bool, form: str) -> None:
    x, y = rows(103), np.arange(103) % 3
    given: npt.NDArray[Any] = x.astype(">f4") if "big-endian" in form else x
    given = np.asfortranarray(given) if "fortran" in form else given
    given = given.astype(np.float64) if form == "float64" else given
    data = opened(saved(path, compressed, x=given, y=y))

    for _ in range(2):  # a dataset can be read again
        batches = list(data.batches(25))
        assert [len(batch) for batch in batches] == [25, 25, 25, 25, 3]
        assert [batch.first for batch in batches] == [0, 25, 50, 75, 100]
        assert together(batches).dtype == np.float32
        np.testing.assert_array_equal(together(batches), x)
        np.testing.assert_array_equal(np.concatenate([batch.labels for batch in batches]), y)
    assert (data.size, data.task) == (103, "classification")


def test_an_array_that_is_read_in_many_pieces_arrives_whole(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporters.datasets.npz.PIECE_BYTES", 100)
    x = rows(50)
    data = opened(saved(path, x=x, y=np.arange(50) % 2))

    np.testing.assert_array_equal(together(list(data.batches(7))), x)
    some = list(data.batches(7, at_most=20, seed=3))
    np.testing.assert_array_equal(together(some), x[np.concatenate([batch.rows for batch in some])])


def test_a_fixed_batch_is_filled_with_its_last_row(path: Path) -> None:
    x = rows(10)
    data = opened(saved(path, x=x, y=np.arange(10) % 2), TensorSpec("x", "float32", (4, 4)))

    *_, last = data.batches(64)
    assert (len(last), last.inputs["x"].shape) == (2, (4, 4))
    np.testing.assert_array_equal(last.inputs["x"], x[[8, 9, 9, 9]])


def test_a_subset_is_the_same_each_time_and_has_every_class(path: Path) -> None:
    y = np.array([0] * 900 + [1] * 95 + [2] * 5)
    data = opened(saved(path, x=rows(1000), y=y))

    def chosen(seed: int) -> npt.NDArray[np.int64]:
        return np.concatenate([batch.rows for batch in data.batches(16, at_most=100, seed=seed)])

    np.testing.assert_array_equal(chosen(7), chosen(7))
    assert not np.array_equal(chosen(7), chosen(8))
    assert np.bincount(y[chosen(7)]).tolist() == [89, 10, 1]
    assert len(set(chosen(7))) == 100


def test_arrays_are_found_by_the_schema_or_the_usual_names(path: Path) -> None:
    x, y = rows(6), np.arange(6) % 2
    named = {"inputs": {"x": "features"}, "label": "kind"}
    assert opened(saved(path, features=x, kind=y), schema=named).size == 6
    for names in ({"inputs": x, "target": y}, {"X": x, "labels": y}, {"data": x, "label": y}):
        assert opened(saved(path, **names)).size == 6

    two = (TensorSpec("a", "float32", ("batch", 4)), TensorSpec("b", "float32", ("batch", 1)))
    (batch,) = opened(saved(path, a=x, b=x[:, 0], y=y), *two).batches(10)
    np.testing.assert_array_equal(batch.inputs["b"], x[:, :1])


def test_names_of_classes_become_the_models_ids(path: Path) -> None:
    y = np.array(["dog", "cat", "dog"])
    assert _labels(opened(saved(path, x=rows(3), y=y), classes=["cat", "dog"])) == [1, 0, 1]
    assert _labels(opened(path)) == [1, 0, 1]  # sorted
    numbered = saved(path, x=rows(3), y=np.array([0, 1, 0]))
    swapped = opened(numbered, schema={"classes": ["dog", "cat"]}, classes=["cat", "dog"])
    assert (_labels(swapped), swapped.classes) == ([1, 0, 1], ["cat", "dog"])


class Name(str):
    """Counts how often names are compared."""

    comparisons = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Name.comparisons += 1
        return super().__eq__(other)


@pytest.mark.parametrize("kind", ["names", "numbers", "positions"])
def test_the_names_of_classes_are_not_searched_for_each_label(
    path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = np.arange(300)[::-1]
    names = [Name(number if kind == "numbers" else f"class {number}") for number in range(300)]
    schema = {"classes": list(map(str, names))} if kind == "positions" else {}
    saved(path, x=rows(300), y=np.array(names)[ids] if kind == "names" else ids)
    monkeypatch.setattr(Name, "comparisons", 0)
    data = opened(path, schema=schema, classes=names)
    assert [int(label) for batch in data.batches(100) for label in batch.labels] == ids.tolist()
    assert Name.comparisons < 10 * 300


def _labels(data: Dataset) -> list[int]:
    return [int(label) for batch in data.batches(10) for label in batch.labels]


def test_a_regression_and_a_reconstruction_have_their_labels(path: Path) -> None:
    x = rows(5)
    regression = opened(saved(path, x=x, y=x[:, 0].astype(np.float64)))
    (batch,) = regression.batches(10)
    assert (regression.task, batch.labels.shape, batch.labels.dtype) == ("regression", (5, 1), np.float64)

    reconstruction = opened(saved(path, x=x), task_type="autoencoder")
    assert reconstruction.task == "reconstruction"
    assert next(reconstruction.batches(10)).labels is None


def test_calibration_needs_no_label(path: Path) -> None:
    data = opened(saved(path, x=rows(5)), labelled=False)
    assert (data.task, data.size) == (None, 5)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": rows(3)[:, :3], "y": np.arange(3)}, ["[rows, 3]", "[batch, 4]"]),
        ({"x": rows(3).reshape(3, 2, 2), "y": np.arange(3)}, ["[rows, 2, 2]"]),
        ({"x": rows(3), "y": np.arange(4)}, ["different numbers of rows"]),
        ({"x": rows(0), "y": np.arange(0)}, ["no rows"]),
        ({"x": rows(3), "y": np.zeros(3, int)}, ["one class"]),
        ({"x": rows(3)}, ["no label", "schema.label"]),
        ({"features": rows(3), "y": np.arange(3)}, ["'x'", "schema.inputs", "'features'"]),
        ({"x": rows(3), "y": np.array([0, 1, np.nan])}, ["NaN"]),
        ({"x": np.array([["a"] * 4] * 3), "y": np.arange(3)}, ["<U1", "takes numbers"]),
        ({"x": rows(3).astype(complex), "y": np.arange(3)}, ["complex128"]),
        ({}, ["no arrays"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_does_not_fit_is_refused_with_the_reason(
    path: Path, arrays: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(InvalidDataset) as caught:
        list(opened(saved(path, **arrays)).batches(10))
    for word in words:
        assert word in caught.value.message


def test_values_that_a_cast_would_change_are_refused_with_their_row(path: Path) -> None:
    def refusal(x: npt.NDArray[Any], dtype: str = "float32") -> str:
        data = opened(saved(path, x=x, y=np.arange(len(x))), TensorSpec("x", dtype, ("batch", 4)))
        with pytest.raises(InvalidDataset) as caught:
            list(data.batches(2))
        return caught.value.message

    x = rows(5).astype(np.float64)
    for bad, words in ((np.nan, "NaN"), (np.inf, "infinity"), (1e300, "float32 cannot hold")):
        wrong = x.copy()
        wrong[3, 1] = bad
        assert "Row 3" in refusal(wrong)
        assert words in refusal(wrong)
    assert "int64 cannot hold" in refusal(x, "int64")
    assert "int32 cannot hold" in refusal(np.full((2, 4), 2**40), "int32")
    assert "float32 cannot hold" in refusal(np.full((2, 4), 2**24 + 1), "float32")
    whole = opened(
        saved(path, x=np.full((2, 4), 2**20), y=np.arange(2)), TensorSpec("x", "int32", ("batch", 4))
    )
    assert next(whole.batches(2)).inputs["x"].dtype == np.int32


def test_nan_is_a_missing_value_where_the_model_says_so(path: Path) -> None:
    x = rows(4)
    x[1, 1] = np.nan
    data = opened(saved(path, x=x.astype(np.float64), y=np.arange(4)), missing=True)
    np.testing.assert_array_equal(next(data.batches(4)).inputs["x"], x)


def test_objects_are_never_unpickled(path: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    np.savez(path, allow_pickle=True, x=rows(2), y=np.array([Trap(), Trap()], dtype=object))
    with pytest.raises(InvalidDataset, match="not numbers or texts"):
        opened(path)
    assert not (tmp_path / "ran").exists()


def test_images_go_through_the_declared_preprocessing(path: Path) -> None:
    from exporters.processing.declared import complete_preprocessing
    from exporters.processing.image import prepare

    declared = complete_preprocessing(
        {"resize": {"method": "resize", "size": [6, 5]}, "normalize": {"mean": [0.5], "std": [0.5]}}
    )
    assert declared is not None
    x = np.random.default_rng(0).integers(0, 256, (3, 9, 8, 3), dtype=np.uint8)
    spec = TensorSpec("x", "float32", ("batch", 3, 5, 6))
    data = opened(saved(path, x=x, y=np.arange(3)), spec, preprocessing=declared)

    (batch,) = data.batches(10)
    np.testing.assert_array_equal(batch.inputs["x"], np.concatenate([prepare(one, declared)[0] for one in x]))
    assert batch.geometries is not None
    assert [(one.width, one.height) for one in batch.geometries] == [(8, 9)] * 3


def test_an_invalid_schema_names_its_field(path: Path) -> None:
    saved(path, x=rows(3), y=np.arange(3))
    for schema, field in (
        ({"task": "ranking"}, "schema.task"),
        ({"classes": ["a", "a"]}, "schema.classes"),
        ({"inputs": {"x": 3}}, "schema.inputs"),
        ({"label": ["y"]}, "schema.label"),
    ):
        with pytest.raises(UnsupportedOption, match=field):
            opened(path, schema=schema)
    with pytest.raises(InvalidDataset, match=r"schema.label is 'z'"):
        opened(path, schema={"label": "z"})
    with pytest.raises(UnsupportedOption, match="cannot be loaded"):
        open_dataset(DatasetFile(path, "other"), (X,))


def test_a_damaged_file_is_told(path: Path, tmp_path: Path) -> None:
    whole = saved(path, x=rows(2000), y=np.arange(2000)).read_bytes()
    for name, content in {
        "text": b"hello, this is no archive at all",
        "empty": b"",
        "cut": whole[:-100],
        "flipped": whole[:9000] + bytes([whole[9000] ^ 1]) + whole[9001:],
    }.items():
        damaged = tmp_path / name
        damaged.write_bytes(content)
        with pytest.raises(InvalidDataset, match=r"(?i)empty|damaged|no zip"):
            list(opened(damaged).batches(100))
    with pytest.raises(InvalidDataset, match="no file"):
        opened(tmp_path / "absent")


def test_a_header_that_lies_is_refused(path: Path) -> None:
    for text, words in (
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000, 4), }", "size is wrong"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (-2, 4), }", "size is wrong"),
        ("{'descr': '|O', 'fortran_order': False, 'shape': (2, 4), }", "not numbers or texts"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 0), }", "more than 50,000,000"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1000000000000, 0), }", "A row of the array"),
        ("{'descr': '<U0', 'fortran_order': False, 'shape': (2,), }", "no characters"),
        ("{'descr': '|S0', 'fortran_order': False, 'shape': (2,), }", "no characters"),
        ("__import__('os').system('true')", "damaged"),
    ):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", _npy(text) + rows(2).tobytes())
        with pytest.raises(InvalidDataset, match=words):
            opened(path)


def _npy(header: str) -> bytes:
    padded = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded


# Reads a dataset in a process whose memory is limited, and prints how it ended.
_READ = """
import sys
from pathlib import Path
from exporters.base import TensorSpec
from exporters.datasets import DatasetFile, open_dataset
from exporters.errors import InvalidDataset
from exporters.sandbox import limits
limits.apply({"memory_bytes": 1 << 30})
try:
    data = open_dataset(DatasetFile(Path(sys.argv[1]), "npz"), [TensorSpec("x", "float32", ("batch", 1024))])
    rows = sum(len(batch) for batch in data.batches(64))
    print("rows", rows)
except InvalidDataset as exc:
    print("refused", exc.message)
"""


def read_within_1_gib(path: Path) -> str:
    done = subprocess.run([sys.executable, "-c", _READ, path], capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


_BLOCK = bytes(1 << 24)


class Repeated:
    """Stands for zipfile's compressor: deflates one block of zeros, and repeats the result."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(1, zlib.DEFLATED, -15)
        self._block = b""

    def compress(self, data: bytes) -> bytes:
        if data is not _BLOCK:
            return self._deflate.compress(data) + self._deflate.flush(zlib.Z_FULL_FLUSH)
        self._block = self._block or self._deflate.compress(data) + self._deflate.flush(zlib.Z_FULL_FLUSH)
        return self._block

    def flush(self) -> bytes:
        return self._deflate.flush()


def bomb(path: Path, unpacked_bytes: int) -> Path:
    """A file of zeros, which deflate packs a thousand times."""
    count = unpacked_bytes // 4096
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        header = _npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({count}, 1024), }}")
        with archive.open("x.npy", "w", force_zip64=True) as member:
            member._compressor = Repeated()  # type: ignore[attr-defined]
            member.write(header)
            for _ in range(unpacked_bytes // len(_BLOCK)):
                member.write(_BLOCK)
        labels = io.BytesIO()
        np.save(labels, np.arange(count) % 2)
        archive.writestr("y.npy", labels.getvalue())
    return path


def test_a_small_file_that_unpacks_to_10_gb_is_refused(path: Path) -> None:
    bomb(path, 10 * GIB)
    assert path.stat().st_size < GIB // 10
    answer = read_within_1_gib(path)
    assert answer.startswith("refused")
    assert "unpacks to more than" in answer


def test_a_large_array_is_streamed_in_little_memory(path: Path) -> None:
    bomb(path, GIB * 3 // 2)
    assert read_within_1_gib(path) == f"rows {GIB * 3 // 2 // 4096}"


def test_bytes_are_counted_and_not_only_those_that_the_archive_declares(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(path, compressed=True, x=np.zeros((50_000, 4), np.float32), y=np.arange(50_000) % 2)
    data = opened(path)
    monkeypatch.setattr(data._reader._archive, "_limit", 100_000)  # type: ignore[attr-defined]
    with pytest.raises(InvalidDataset, match="unpacks to more than 100,000 bytes"):
        list(data.batches(10_000))
