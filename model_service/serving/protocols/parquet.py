"""Parquet to a data frame. polars, loaded by the first body, reads it."""

from __future__ import annotations

import io
from typing import Any

from model_service.errors import UnsupportedOption

_VALUE_BYTES = 8


def read(body: bytes, limit_bytes: int) -> Any:
    """A ``polars.DataFrame``.

    Raises:
        ValueError: no Parquet, or one of more values than ``limit_bytes`` of float64 have.
        UnsupportedOption: polars is not installed.
    """
    try:
        import polars
    except ImportError:
        raise UnsupportedOption(
            "Parquet needs polars, which this server does not have: send CSV or records.",
            allowed=["application/json", "text/csv"],
            option="Content-Type",
        ) from None
    try:
        lazy = polars.scan_parquet(io.BytesIO(body))
        columns = len(lazy.collect_schema())
        rows = int(lazy.select(polars.len()).collect().item())
        if rows * columns * _VALUE_BYTES > limit_bytes:
            raise ValueError(f"The file has {rows:,} rows of {columns:,} columns: send fewer at a time.")
        return lazy.collect()
    except ValueError:
        raise
    except BaseException as exc:  # a panic of polars is no Exception
        if not isinstance(exc, Exception) and type(exc).__name__ != "PanicException":
            raise
        raise ValueError(f"The Parquet file cannot be read: {str(exc)[:200]}") from None
