"""Convert an image in any accepted form to the bytes of a file."""

import os
from io import BytesIO
from pathlib import Path
from typing import Any

from model_service.client.errors import InvalidArgument, NoSuchFile

_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"BM": "image/bmp",
    b"II*\x00": "image/tiff",
    b"MM\x00*": "image/tiff",
}
# Pillow's modes with 32 bits per pixel and channel, which convert("RGB") would clip.
_WIDE_MODES = ("F", "I")


def content_type(content: bytes) -> str | None:
    """Return the media type of an image's bytes by their beginning; None if they are no known image."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for start, kind in _SIGNATURES.items() if content.startswith(start)), None)


def is_image(value: Any) -> bool:
    """Return whether a value can only be an image: a path, bytes of an image, or a Pillow image."""
    if isinstance(value, bytes | bytearray | memoryview):
        return content_type(bytes(value[:16])) is not None
    return isinstance(value, str | os.PathLike) or _is_picture(value)


def encoded(image: Any) -> tuple[bytes, str]:
    """Return the bytes of an image file and their media type, for

    - the path of a file, or its bytes: unchanged;
    - a Pillow image, or a ``uint8[H, W]``, ``uint8[H, W, 3]`` (RGB) or ``uint8[H, W, 4]`` (RGBA) array: a
      PNG, which changes no pixel.

    Raises:
        NoSuchFile: there is no file at that path.
        InvalidArgument: it is no image, or Pillow is needed and not installed.
        OSError: the file cannot be read.
    """
    if isinstance(image, str | os.PathLike):
        path = Path(image)
        if not path.exists():
            raise NoSuchFile(f"There is no file {path}.")
        return _known(path.read_bytes(), str(path))
    if isinstance(image, bytes | bytearray | memoryview):
        return _known(bytes(image), "This")
    picture = image if _is_picture(image) else _picture(image)
    file = BytesIO()
    try:
        picture.save(file, "PNG", compress_level=1)
    except OSError:  # a mode that PNG does not have, such as CMYK
        if picture.mode in _WIDE_MODES:
            raise InvalidArgument(
                f"The picture has pixels of mode {picture.mode!r}, not 8 bits per channel: convert "
                "it to 8 bits first."
            ) from None
        picture.convert("RGB").save(file, "PNG", compress_level=1)
    return file.getvalue(), "image/png"


def _known(content: bytes, name: str) -> tuple[bytes, str]:
    kind = content_type(content)
    if kind is None:
        raise InvalidArgument(f"{name} is not a PNG, JPEG, WebP, BMP, GIF or TIFF image.")
    return content, kind


def _is_picture(value: Any) -> bool:
    return any(f"{kind.__module__}.{kind.__name__}" == "PIL.Image.Image" for kind in type(value).__mro__)


def _picture(pixels: Any) -> Any:
    shape, dtype = getattr(pixels, "shape", None), getattr(pixels, "dtype", None)
    if (
        shape is None
        or str(dtype) != "uint8"
        or len(shape) not in {2, 3}
        or (shape[2:] or (3,))[0] not in {3, 4}
    ):
        what = f"a {dtype} array of shape {list(shape)}" if shape is not None else type(pixels).__name__
        raise InvalidArgument(
            "An image must be a path, the bytes of a file, a Pillow image or a uint8 array of "
            f"shape [H, W] or [H, W, 3], not {what}."
        )
    try:
        from PIL import Image
    except ImportError as exc:
        raise InvalidArgument("Sending pixels as an image needs Pillow: pip install pillow.") from exc
    return Image.fromarray(pixels)
