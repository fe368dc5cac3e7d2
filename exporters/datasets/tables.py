"""Tables in Parquet, CSV with a header, and JSON lines, read in pieces by polars."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InvalidDataset
from ..sources.compressed import compression
from .reader import NAME_THE_LABEL, PIECE_BYTES, Column, Piece, chosen_of

_ROWS = 65_536
_INFERRED_ROWS = 10_000  # from which the types of columns are inferred
_MAX_TEXT_BYTES = 100_000
_MAX_COLUMNS = 100_000
_SEPARATORS = ",;\t|"
_PARQUET, _ZSTD = b"PAR1", b"\x28\xb5\x2f\xfd"


class TableReader:
    """See ``reader.Reader``. Columns of lists of numbers are arrays; other types have the kind ``O``.

    Texts are arrays of objects, so that one long text does not pad the others. A missing text is None.
    """

    is_table = True
    classes: Sequence[str] | None = None
    unlabelled = NAME_THE_LABEL

    def __init__(self, scan: Any, sliced: bool) -> None:
        self._scan = scan
        self._sliced = sliced  # whether a slice is read without the rows before it
        with _readable():
            import polars

            schema = scan.collect_schema()
            if len(schema) > _MAX_COLUMNS:
                raise InvalidDataset(f"The table has more than {_MAX_COLUMNS:,} columns.")
            self._rows = int(scan.select(polars.len()).collect(engine="streaming").item())
            first = scan.head(1).collect(engine="streaming")
        self.columns: Mapping[str, Column] = {
            name: _column(dtype, first[name]) for name, dtype in schema.items()
        }
        self.lengths = dict.fromkeys(self.columns, self._rows)

    def pieces(self, names: Sequence[str], chosen: npt.NDArray[np.int64] | None = None) -> Iterator[Piece]:
        """See ``reader.Reader``."""
        first = 0
        texts = [name for name in names if self.columns[name].kind == "U"]
        for frame in self._frames(list(names), chosen):
            if frame is None:
                first += self._step(names)
                continue
            for part in _parts(frame, texts):
                piece = {name: _array(name, part[name], self.columns[name]) for name in names}
                yield from chosen_of(first, piece, chosen)
                first += len(part)

    def _step(self, names: Sequence[str]) -> int:
        return max(1, min(_ROWS, PIECE_BYTES // max(1, sum(self.columns[name].row_bytes for name in names))))

    def _frames(self, names: list[str], chosen: npt.NDArray[np.int64] | None) -> Iterator[Any]:
        """Yield the table's parts in order; None stands for a part that has no chosen row."""
        step = self._step(names)
        with _readable():
            wanted = self._scan.select(names)
            if not self._sliced:
                for batch in wanted.collect_batches(chunk_size=step, maintain_order=True):
                    yield from batch.iter_slices(step)
                return
            for first in range(0, self._rows, step):
                if chosen is None or np.searchsorted(chosen, first) < np.searchsorted(chosen, first + step):
                    yield wanted.slice(first, step).collect(engine="streaming")
                else:
                    yield None


def open_file(path: Path, schema: Mapping[str, Any]) -> TableReader:
    """Open a table; its content says whether it is Parquet, and its first character whether it is JSON."""
    if not path.is_file():
        raise InvalidDataset(f"There is no file {path.name}.")
    with path.open("rb") as file:
        head = file.read(1 << 16)
    if not head.strip():
        raise InvalidDataset("The dataset's file is empty. Upload it again.")
    if compression(head) or head.startswith(_ZSTD):
        raise InvalidDataset(
            "The dataset's file is compressed. Upload it without compression, or as Parquet."
        )
    with _readable():
        import polars

        if head.startswith(_PARQUET):
            scan = polars.scan_parquet(path, hive_partitioning=False, glob=False, low_memory=True)
            return TableReader(scan, sliced=True)
        if head.lstrip().startswith(b"{"):
            return TableReader(polars.scan_ndjson(path, infer_schema_length=_INFERRED_ROWS), sliced=False)
        line = head.partition(b"\n")[0].decode("utf-8", errors="replace")
        scan = polars.scan_csv(
            path,
            separator=max(_SEPARATORS, key=line.count),
            infer_schema_length=_INFERRED_ROWS,
            glob=False,
        )
        return TableReader(scan, sliced=False)


@contextmanager
def _readable() -> Iterator[None]:
    """Convert the errors of polars to InvalidDataset."""
    import polars

    try:
        yield
    except (polars.exceptions.PolarsError, polars.exceptions.PanicException, OSError) as exc:
        raise InvalidDataset(
            f"The dataset's table cannot be read: {' '.join(str(exc).split())[:300]}"
        ) from exc


def _column(dtype: Any, first: Any) -> Column:
    """Return the numpy form of a column; the first row has the lengths of lists."""
    import polars

    inner, shape = dtype, []
    values = first.to_list()[0] if len(first) else None
    while isinstance(inner, polars.List | polars.Array):
        shape.append(len(values) if values is not None else 0)
        values = values[0] if values else None
        inner = inner.inner
    if inner.is_numeric() and not inner.is_decimal():
        kind = np.dtype("float64") if inner.is_float() and inner != polars.Float32 else _numpy(inner)
        return Column(kind, tuple(shape))
    if inner == polars.Boolean:
        return Column(np.dtype(bool), tuple(shape))
    if not shape and (inner == polars.String or isinstance(inner, polars.Categorical | polars.Enum)):
        return Column(np.dtype("U"))
    return Column(np.dtype("O"), tuple(shape))


def _numpy(dtype: Any) -> "np.dtype[Any]":
    import polars

    found: np.dtype[Any] = polars.Series([], dtype=dtype).to_numpy().dtype
    return found


def _parts(frame: Any, texts: Sequence[str]) -> Iterator[Any]:
    """Yield the rows of a frame in parts whose texts have about PIECE_BYTES.

    Polars keeps equal texts of a Parquet file once, but an array of Python's texts keeps each.
    """
    import polars

    total = np.zeros(len(frame), np.int64)
    for name in texts:
        sizes = frame[name].cast(polars.String).str.len_bytes().fill_null(0).to_numpy()
        if sizes.max(initial=0) > _MAX_TEXT_BYTES:
            raise InvalidDataset(f"The column {name!r} has a text of more than {_MAX_TEXT_BYTES:,} bytes.")
        total += sizes
    cuts = np.flatnonzero(np.diff(total.cumsum() // PIECE_BYTES)) + 1
    for start, stop in pairwise([0, *cuts.tolist(), len(frame)]):
        yield frame[start:stop]


def _array(name: str, values: Any, column: Column) -> npt.NDArray[Any]:
    """Return a part of a column. A missing number is NaN."""
    import polars

    if column.kind == "U":
        return np.array(values.cast(polars.String).to_list(), object)
    if not column.shape:
        numbers: npt.NDArray[Any] = values.to_numpy()
        return numbers.astype(np.float64) if numbers.dtype.kind == "O" else numbers
    try:
        found = np.array(values.to_list(), column.dtype)
    except (TypeError, ValueError) as exc:
        raise InvalidDataset(
            f"The lists of the column {name!r} have missing values or other lengths."
        ) from exc
    if found.shape[1:] != column.shape:
        raise InvalidDataset(
            f"The lists of the column {name!r} have different shapes, {list(column.shape)} and "
            f"{list(found.shape[1:])}."
        )
    return found
