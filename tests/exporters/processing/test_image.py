import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from exporters.processing import image as reference
from exporters.processing.declared import complete_preprocessing


def _declared(**parts: Any) -> dict[str, Any]:
    done = complete_preprocessing(parts)
    assert done is not None
    return done


def _picture(height: int, width: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def test_the_seeds_wrapper_gives_the_same_tensor() -> None:
    """The example of the design: OpenCV, RGB, divided by 255, mean and std, HWC to NCHW."""
    picture = _picture(48, 64)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    declared = _declared(resize={"method": "resize", "size": [32, 24]}, normalize={"mean": mean, "std": std})

    mine, _ = reference.prepare(picture, declared)

    theirs = cv2.resize(picture, (32, 24)).astype(np.float32) / 255.0
    theirs = ((theirs - np.array(mean)) / np.array(std)).transpose(2, 0, 1)[None]
    assert mine.dtype == np.float32
    np.testing.assert_allclose(mine, theirs, atol=1.01 / 255 / 0.224)


def test_letterbox_is_ultralytics() -> None:
    """Resize by the smaller ratio, then a border of 114, the odd pixel to the right and below."""
    picture = _picture(50, 91)
    declared = _declared(resize={"method": "letterbox", "size": [64, 64], "stride": 32})

    fitted, geometry = reference.fit(picture, declared["resize"])

    ratio = min(64 / 91, 64 / 50)
    wide, high = round(91 * ratio), round(50 * ratio)
    across, down = (64 - wide) / 2, (64 - high) / 2
    theirs = cv2.copyMakeBorder(
        cv2.resize(picture, (wide, high), interpolation=cv2.INTER_LINEAR),
        round(down - 0.1),
        round(down + 0.1),
        round(across - 0.1),
        round(across + 0.1),
        cv2.BORDER_CONSTANT,
        value=(114, 114, 114),
    )
    assert np.abs(fitted.astype(int) - theirs).max() <= 1
    assert (geometry.left, geometry.top) == (round(across - 0.1), round(down - 0.1))


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from(["letterbox", "resize", "center_crop"]))
def test_a_point_finds_its_way_back(height: int, width: int, method: str) -> None:
    declared = _declared(resize={"method": method, "size": [32, 24]})
    fitted, geometry = reference.fit(np.zeros((height, width, 3), np.uint8), declared["resize"])

    corners = np.array([[width / 4, height / 4, width / 2, height / 2]], np.float32)
    scale = [geometry.scaled_width / width, geometry.scaled_height / height] * 2
    shown = corners * scale + [geometry.left, geometry.top] * 2

    assert fitted.shape == (24, 32, 3)
    np.testing.assert_allclose(geometry.to_image(shown.astype(np.float32)), corners, atol=1e-3)


def test_center_crop_is_timms_evaluation() -> None:
    """The shorter side to 32 / 0.875, antialiased, then the middle."""
    picture = _picture(80, 120)
    resize = {"method": "center_crop", "size": [28, 28], "interpolation": "bicubic", "antialias": True}

    fitted, _ = reference.fit(picture, _declared(resize=resize)["resize"])

    whole = Image.fromarray(picture).resize((48, 32), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(fitted, np.asarray(whole.crop((10, 2, 38, 30))))


def test_colours_layouts_and_dtypes() -> None:
    picture = _picture(4, 5)

    def made(**form: str) -> npt.NDArray[Any]:
        return reference.prepare(picture, _declared(format=form))[0]

    np.testing.assert_array_equal(made(dtype="uint8", output_layout="NHWC")[0], picture)
    np.testing.assert_array_equal(made(color_space="BGR")[0, 0], picture[:, :, 2])
    grey = np.asarray(Image.fromarray(picture).convert("L"))
    np.testing.assert_array_equal(made(color_space="GRAY", dtype="uint8")[0, 0], grey)
    assert made(dtype="float16").dtype == np.float16


def test_an_image_is_decoded_as_it_is_looked_at() -> None:
    picture = Image.fromarray(_picture(6, 9))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees

    turned = reference.read(_encoded(picture, exif=exif))

    np.testing.assert_array_equal(turned, np.rot90(np.asarray(picture), -1))
    np.testing.assert_array_equal(reference.read(_encoded(picture.convert("RGBA"))), picture)
    assert reference.read(_encoded(picture.convert("L"))).shape == (6, 9, 3)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no image",
        _encoded(Image.fromarray(_picture(30, 30)))[:200],
        _encoded(Image.fromarray(_picture(3, 3)), "TIFF"),
        _encoded(Image.fromarray(np.zeros((3, 3), np.uint16))),
        _encoded(Image.new("1", (20_000, 20_000))),
    ],
    ids=["empty", "text", "cut", "a format not offered", "16 bits", "400 million pixels"],
)
def test_bytes_that_are_no_image_are_the_callers_mistake(data: bytes) -> None:
    with pytest.raises(ValueError, match="image"):
        reference.read(data)


def _png_of_16_bits(colour_type: int, channels: int) -> bytes:
    """Pillow writes grey ones alone."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    rows = (b"\0" + bytes(range(2 * channels)) * 2) * 2
    header = struct.pack(">IIBBBBB", 2, 2, 16, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "data",
    [
        _png_of_16_bits(0, 1),
        _png_of_16_bits(4, 2),
        _png_of_16_bits(2, 3),
        _png_of_16_bits(6, 4),
    ],
    ids=["grey", "grey and alpha", "RGB", "RGBA"],
)
def test_an_image_of_16_bits_a_channel_is_refused_whatever_its_channels(data: bytes) -> None:
    with Image.open(io.BytesIO(data)) as opened:
        opened.load()
    with pytest.raises(ValueError, match="16 bits per channel"):
        reference.read(data)


@pytest.mark.parametrize("mode", ["I;16", "F"])
def test_a_tiff_of_wide_pixels_is_refused(mode: str) -> None:
    with pytest.raises(ValueError, match="image"):
        reference.read(_encoded(Image.new(mode, (3, 3)), "TIFF"))


@pytest.mark.parametrize("shape", [(4, 4, 4), (4,), (0, 4, 3)], ids=str)
def test_an_array_that_is_no_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="image"):
        reference.read(np.zeros(shape, np.uint8))
