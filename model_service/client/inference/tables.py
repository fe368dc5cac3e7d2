"""The body of a prediction request for rows with named columns."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model_service.client.errors import InvalidArgument

FILES: Mapping[str, str] = {".csv": "text/csv", ".parquet": "application/vnd.apache.parquet"}


def encode(records: Any) -> tuple[bytes, str]:
    """Return the body and its Content-Type, for

    - a list of records, each a dict of values by column; or one record;
    - a data frame of pandas or polars;
    - the path of a ``.csv`` or ``.parquet`` file.

    NaN, None and the missing values of pandas are sent as null.

    Raises:
        InvalidArgument: it is none of these, or a value has no JSON.
    """
    if isinstance(records, str | os.PathLike):
        return _file(Path(records))
    if hasattr(records, "to_dicts"):
        records = records.to_dicts()
    elif hasattr(records, "to_dict") and hasattr(records, "columns"):
        records = records.to_dict("records")
    rows = [records] if isinstance(records, Mapping) else records
    if not isinstance(rows, list | tuple) or not all(isinstance(row, Mapping) for row in rows):
        raise InvalidArgument(
            "records must be a list of dicts by column, a data frame, or the path of a .csv or .parquet file."
        )
    try:
        found = [{name: _cell(value) for name, value in row.items()} for row in rows]
        return json.dumps({"records": found}, allow_nan=False).encode(), "application/json"
    except (TypeError, ValueError) as exc:
        raise InvalidArgument(f"These records cannot be sent as JSON: {exc}.") from exc


def _file(path: Path) -> tuple[bytes, str]:
    content_type = FILES.get(path.suffix.lower())
    if content_type is None:
        raise InvalidArgument(f"{path} is not a .csv or .parquet file.")
    try:
        return path.read_bytes(), content_type
    except OSError as exc:
        raise InvalidArgument(f"{path} cannot be read: {exc.strerror}.") from exc


def _cell(value: Any) -> Any:
    """Convert a value to one of JSON's types; numpy's scalars become Python's."""
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and value != value else value
