"""Convert an image to a network's input, with the steps specified in ``declared.py``.

Needs numpy, Pillow to decode, and of this project only ``resize``: a package's Python wrapper contains this
file.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .resize import Pixels, resize

Picture: TypeAlias = str | Path | bytes | npt.NDArray[np.uint8]

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
MAX_PIXELS = 100_000_000
# A PNG's bits per channel: Pillow silently reduces images of several channels to 8 bits.
_PNG, _PNG_DEPTH_AT = b"\x89PNG\r\n\x1a\n", 24


@dataclass(frozen=True)
class Geometry:
    """Maps input pixels to the image. ``left`` and ``top`` are negative if the image was cropped."""

    width: int
    height: int
    scaled_width: int
    scaled_height: int
    left: int
    top: int
    input_width: int
    input_height: int

    def to_image(self, corners: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Convert float32[..., 4] x1, y1, x2, y2 of the input to image coordinates, clipped to the image."""
        shift = np.array([self.left, self.top] * 2, np.float32)
        size = np.array([self.width, self.height] * 2, np.float32)
        scaled = np.array([self.scaled_width, self.scaled_height] * 2, np.float32)
        moved: npt.NDArray[np.float32] = (corners - shift) * size / scaled
        return np.clip(moved, np.float32(0), size)


def read(picture: Picture) -> Pixels:
    """Return uint8[H, W, 3], RGB, of a file, its bytes, or an array of pixels ([H, W] is grey).

    Raises:
        ValueError: no supported image with 8 bits per channel, or too many pixels.
        OSError: the file cannot be read.
    """
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or 0 in picture.shape:
            raise ValueError(f"An image must be uint8[H, W, 3], not {picture.dtype}{list(picture.shape)}.")
        if picture.ndim == 2:
            picture = picture[:, :, None]
        if picture.shape[2] not in (1, 3):
            raise ValueError(f"An image must have 1 or 3 channels, not {picture.shape[2]}.")
        return np.broadcast_to(picture, (*picture.shape[:2], 3))
    return decode(picture if isinstance(picture, bytes) else Path(picture).read_bytes())


def decode(data: bytes) -> Pixels:
    """Decode an image. Raises ValueError, as ``read``. The size is checked before a pixel is decoded."""
    from PIL import Image as Pillow
    from PIL import ImageOps

    if data.startswith(_PNG) and data[_PNG_DEPTH_AT : _PNG_DEPTH_AT + 1] > b"\x08":
        raise ValueError(
            f"The image has {data[_PNG_DEPTH_AT]} bits per channel, but the model takes 8: scale "
            "its pixels to 8 bits as for the images that the model was trained on, and save it "
            "again."
        )
    try:
        with Pillow.open(io.BytesIO(data), formats=_FORMATS) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise ValueError(f"The image has more than {MAX_PIXELS:,} pixels.")
            if opened.mode not in _MODES:
                raise ValueError(
                    f"The image has pixels of mode {opened.mode!r}, not 8 bits per channel: convert "
                    "it to 8 bits per channel."
                )
            upright = ImageOps.exif_transpose(opened)
            return np.asarray(upright.convert("RGB"))
    except ValueError:
        raise
    except Exception as exc:  # decoders raise many types of errors for invalid bytes
        raise ValueError(f"The image cannot be read; use {', '.join(_FORMATS)}.") from exc


def prepare(image: Pixels, declared: Mapping[str, Any]) -> tuple[npt.NDArray[np.generic], Geometry]:
    """Return a batch of one and its geometry. ``declared``: the completed preprocessing of metadata.json."""
    fitted, geometry = fit(image, declared["resize"])
    if declared["embedded"]:
        return fitted[None], geometry
    return convert(fitted[None], declared), geometry


def fit(image: Pixels, declared: Mapping[str, Any] | None) -> tuple[Pixels, Geometry]:
    """Apply step 1: scale the image to the size of the input."""
    height, width = image.shape[:2]
    if declared is None:
        return image, Geometry(width, height, width, height, 0, 0, width, height)
    wide, high = declared["size"]
    method = declared["method"]
    scaled_width, scaled_height = wide, high
    if method == "letterbox":
        ratio = min(wide / width, high / height)
        scaled_width = max(1, min(wide, _rounded(width * ratio)))
        scaled_height = max(1, min(high, _rounded(height * ratio)))
    elif method == "center_crop":
        fraction = declared["crop_fraction"]
        ratio = max(wide / (fraction * width), high / (fraction * height))
        scaled_width = max(wide, _rounded(width * ratio))
        scaled_height = max(high, _rounded(height * ratio))
    scaled = resize(image, scaled_width, scaled_height, declared["interpolation"], declared["antialias"])
    if method == "center_crop":
        left, top = (scaled_width - wide) // 2, (scaled_height - high) // 2
        fitted = scaled[top : top + high, left : left + wide]
        return fitted, Geometry(width, height, scaled_width, scaled_height, -left, -top, wide, high)
    left, top = (wide - scaled_width) // 2, (high - scaled_height) // 2
    geometry = Geometry(width, height, scaled_width, scaled_height, left, top, wide, high)
    if (scaled_width, scaled_height) == (wide, high):
        return scaled, geometry
    fitted = np.full((high, wide, image.shape[2]), declared["fill_value"], np.uint8)
    fitted[top : top + scaled_height, left : left + scaled_width] = scaled
    return fitted, geometry


def convert(batch: Pixels, declared: Mapping[str, Any]) -> npt.NDArray[np.generic]:
    """Apply steps 2 to 4 to uint8[batch, h, w, 3]: colour, normalize, layout and dtype."""
    form, normalize = declared["format"], declared["normalize"]
    pixels: npt.NDArray[Any] = batch
    if form["color_space"] == "BGR":
        pixels = pixels[..., ::-1]
    elif form["color_space"] == "GRAY":
        red, green, blue = (pixels[..., channel].astype(np.int32) for channel in range(3))
        pixels = ((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16)[..., None]
    if normalize is not None:
        scale, mean, std = (np.asarray(normalize[name], np.float32) for name in ("scale", "mean", "std"))
        pixels = (pixels.astype(np.float32) * scale - mean) / std
    if form["output_layout"] == "NCHW":
        pixels = pixels.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(pixels, dtype=form["dtype"])


def _rounded(value: float) -> int:
    return int(np.floor(value + 0.5))
