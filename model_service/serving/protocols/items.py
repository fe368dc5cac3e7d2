"""Convert images, texts and tables to a model's inputs, as its package declares, within memory limits.

A few bytes may be an image of a hundred million pixels, and each of a thousand tiny images becomes a whole
input. The decoded size of a request is therefore computed before anything is decoded.
"""

from __future__ import annotations

import binascii
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from exporters.processing.table import ColumnError
from model_service.errors import InvalidField
from model_service.serving.protocols import parquet, tensors

if TYPE_CHECKING:
    from exporters.base import Arrays
    from exporters.processing.image import Geometry
    from model_service.serving.protocols import Model

# The limit for all images of a request: 150 MB once decoded, the size of the largest phone photographs.
MAX_PIXELS = 50_000_000
_CHANNELS = 3
_TOKEN_BYTES = 8
_SPECIAL_TOKENS = 16
_TABLE_TYPES: Mapping[str, tuple[type, ...]] = {
    "csv": (bytes, str),
    "parquet": (bytes,),
    "dataframe_split": (dict,),
}
_SPACE = b" \t\r\n"


def images(
    field: str, pictures: Sequence[bytes], model: Model, limit_bytes: int
) -> tuple[Arrays, list[Geometry] | None]:
    """Return the inputs for a batch of image files, and the images' geometries.

    Raises:
        InvalidField: the model takes no images, an image cannot be read, or they are too many or too large.
    """
    _check_takes(field, "images", model)
    sizes = [_pixels(picture) for picture in pictures]
    if sum(sizes) > MAX_PIXELS:
        raise tensors.invalid(field, f"more than {MAX_PIXELS:,} pixels in one request")
    declared = model.pipeline.preprocessing or {}
    itemsize = tensors.expected(model.inputs)[model.inputs[0].name].dtype.itemsize
    if declared.get("resize"):
        width, height = declared["resize"]["size"]
        sizes = [width * height] * len(pictures)
    return _prepare(field, pictures, sum(sizes) * _CHANNELS * itemsize, model, limit_bytes)


def texts(field: str, given: Sequence[str], model: Model, limit_bytes: int) -> Arrays:
    """Return the inputs for a batch of texts. Raises InvalidField, as ``images``."""
    _check_takes(field, "texts", model)
    return _prepare(field, given, _size_of_texts(given, model), model, limit_bytes)[0]


def _size_of_texts(given: Sequence[str], model: Model) -> int:
    """Return the size of the model's inputs in bytes: of tokens, or of the counts of terms."""
    declared = (model.pipeline.preprocessing or {}).get("tokenizer")
    if declared is None:
        (one,) = tensors.expected(model.inputs).values()
        return len(given) * int(one.shape[1]) * one.dtype.itemsize
    tokens = max(len(text.encode()) for text in given) + _SPECIAL_TOKENS
    if declared["truncation"]:
        tokens = min(tokens, declared["max_length"])
    if declared["padding"] == "max_length":
        tokens = declared["max_length"]
    return len(given) * int(tokens) * _TOKEN_BYTES


def table(field: str, given: Any, model: Model, limit_bytes: int) -> Arrays:
    """Return the inputs for rows with named columns: records, ``{"columns", "data"}``, CSV or Parquet.

    Raises:
        InvalidField: the model has no named columns; or the column in the error's field is missing, unknown
            or has a value that it does not accept.
    """
    if not isinstance(given, _TABLE_TYPES.get(field, (list, dict))):
        raise tensors.invalid(
            field, "must be a table: a list of records, or an object with 'columns' and 'data'"
        )
    try:
        rows: Any = given
        if field == "parquet":
            rows = parquet.read(rows, limit_bytes)
        inputs = model.pipeline.records(rows, limit_bytes)
    except ColumnError as exc:
        raise tensors.invalid(f"{field}.{exc.column}", exc.what) from None
    except ValueError as exc:
        raise tensors.invalid(field, str(exc).rstrip(".")) from None
    return tensors.named(model.inputs, inputs)


def decoded(field: str, text: Any) -> bytes:
    """Decode base64, or a ``data:`` URL with it.

    Raises:
        InvalidField: it is neither.
    """
    if not isinstance(text, str):
        raise tensors.invalid(field, "must be a text: the base64 of an image file")
    if text.startswith("data:"):
        kind, comma, text = text.partition(",")
        if not comma or not kind.endswith(";base64"):
            raise tensors.invalid(field, "a data: URL must have ;base64, followed by the data")
    try:
        data = text.encode("ascii")
        if b"\n" in data or b" " in data:
            data = data.translate(None, _SPACE)
        return binascii.a2b_base64(data, strict_mode=True)
    except (binascii.Error, UnicodeEncodeError) as exc:
        raise tensors.invalid(field, f"not base64: {exc}") from None


def _check_takes(field: str, what: str, model: Model) -> None:
    takes = model.pipeline.takes
    if takes != what:
        instead = takes or f"tensors, as 'inputs': {tensors.quoted(spec.name for spec in model.inputs)}"
        raise tensors.invalid(field, f"this model does not take {what}; send {instead}")


def _prepare(
    field: str, items: Sequence[Any], size_bytes: int, model: Model, limit_bytes: int
) -> tuple[Arrays, list[Geometry] | None]:
    if size_bytes > limit_bytes:
        raise tensors.invalid(
            field,
            f"{len(items)} of them need {size_bytes:,} bytes as tensors, more than "
            f"MAX_INFERENCE_BODY, {limit_bytes:,}: send fewer per request",
        )
    try:
        inputs, geometries = model.pipeline.prepare(items)
    except (ValueError, OSError) as exc:
        raise tensors.invalid(field, str(exc).rstrip(".")) from None
    try:
        return tensors.named(model.inputs, inputs), geometries
    except InvalidField as exc:
        raise tensors.invalid(field, exc.message.rstrip(".")) from None


def _pixels(picture: bytes) -> int:
    """Return the number of pixels in the header; 0 for no image, which decoding reports."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(picture)) as opened:
            return opened.width * opened.height
    except Image.DecompressionBombError:
        return MAX_PIXELS + 1
    except Exception:  # Pillow raises many types of errors for invalid bytes
        return 0
