"""Read Parquet as a data frame with polars, which is imported by the first body."""

from __future__ import annotations

import io
from typing import Any

from exporters.processing.table import ColumnError
from model_service.errors import UnsupportedOption
from model_service.serving.protocols.parquet_pages import unpacked_bytes

_VALUE_BYTES = 8


def read(body: bytes, limit_bytes: int) -> Any:
    """Return a ``polars.DataFrame``.

    Raises:
        ColumnError: a column of lists, objects or bytes.
        ValueError: no Parquet; or more values or text than ``limit_bytes`` (values counted as float64), also
            after decompression.
        UnsupportedOption: polars is not installed.
    """
    try:
        import polars
    except ImportError:
        raise UnsupportedOption(
            "Parquet needs polars, which is not installed on this server: send CSV or records.",
            allowed=["application/json", "text/csv"],
            option="Content-Type",
        ) from None
    try:
        lazy = polars.scan_parquet(io.BytesIO(body))
        schema = lazy.collect_schema()
        for name, dtype in schema.items():
            if dtype.is_nested() or dtype in (polars.Binary, polars.Object, polars.Unknown):
                raise ColumnError(name, f"has the type {dtype!s:.100}; send numbers or texts")
        if (size := unpacked_bytes(body)) > limit_bytes:
            raise ValueError(
                f"The unpacked file has {size:,} bytes, more than {limit_bytes:,}: send fewer rows per "
                "request."
            )
        columns = len(schema)
        rows = int(lazy.select(polars.len()).collect().item())
        if rows * columns * _VALUE_BYTES > limit_bytes:
            raise ValueError(
                f"The file has {rows:,} rows of {columns:,} columns: send fewer rows per request."
            )
        texts, categories = polars.col(polars.String), polars.col(polars.Categorical)
        lengths = [texts.str.len_bytes(), categories.cat.len_bytes()]  # a cast would repeat the texts
        sums = lazy.select(each.cast(polars.UInt64).sum() for each in lengths).collect()
        size = sum(sums.row(0)) if sums.width else 0
        if size > limit_bytes:
            raise ValueError(
                f"The file's texts have {size:,} bytes, more than {limit_bytes:,}: send fewer rows "
                "per request."
            )
        return lazy.collect()
    except ValueError:
        raise
    except BaseException as exc:  # a panic of polars is no Exception
        if not isinstance(exc, Exception) and type(exc).__name__ != "PanicException":
            raise
        raise ValueError(f"The Parquet file is not readable: {str(exc)[:200]}") from None
