"""The interpolation against the libraries that models are trained with."""

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from exporters.processing.resize import resize

sizes = st.integers(1, 70)
filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def _image(height: int, width: int, seed: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("interpolation", filters)
@settings(deadline=None, max_examples=50)
@given(sizes, sizes, sizes, sizes, st.integers(0, 99))
def test_antialiased_is_pillow_to_the_bit_in_each_pass(
    interpolation: str, height: int, width: int, high: int, wide: int, seed: int
) -> None:
    image = _image(height, width, seed)

    mine = resize(image, wide, high, interpolation, antialias=True)

    across = Image.fromarray(image).resize((wide, height), filters[interpolation])
    np.testing.assert_array_equal(mine, np.asarray(across.resize((wide, high), filters[interpolation])))


@settings(deadline=None, max_examples=50)
@given(sizes, sizes, sizes, sizes, st.integers(0, 99))
def test_bilinear_is_opencv_within_one(height: int, width: int, high: int, wide: int, seed: int) -> None:
    image = _image(height, width, seed)

    mine = resize(image, wide, high, "bilinear", antialias=False)

    theirs = cv2.resize(image, (wide, high), interpolation=cv2.INTER_LINEAR)
    assert np.abs(mine.astype(int) - theirs).max() <= 1


@settings(deadline=None, max_examples=50)
@given(sizes, sizes, st.integers(1, 5), st.integers(0, 99))
def test_nearest_repeats_pixels(height: int, width: int, times: int, seed: int) -> None:
    image = _image(height, width, seed)

    larger = resize(image, width * times, height * times, "nearest", antialias=False)

    np.testing.assert_array_equal(larger, image.repeat(times, 0).repeat(times, 1))


def test_a_large_image_shrinks_as_opencv_and_pillow_shrink_it() -> None:
    image = _image(1080, 1920, 0)

    plain = resize(image, 640, 360, "bilinear", antialias=False)
    smooth = resize(image, 224, 224, "bicubic", antialias=True)

    theirs = cv2.resize(image, (640, 360), interpolation=cv2.INTER_LINEAR)
    assert np.abs(plain.astype(int) - theirs).max() <= 1
    theirs = np.asarray(Image.fromarray(image).resize((224, 224), Image.Resampling.BICUBIC))
    assert np.abs(smooth.astype(int) - theirs).max() <= 1


def test_the_same_size_is_the_same_image() -> None:
    image = _image(7, 9, 0)

    assert resize(image, 9, 7, "bilinear", antialias=True) is image
