from pathlib import Path

import numpy as np
import pytest

from exporters import runners
from exporters.errors import PackageCorrupt

from .conftest import Export
from .models import SAMPLES

IMAGE = np.zeros((2, 1, 8, 8), np.float32)


@pytest.fixture(scope="module")
def runner(exported: Export) -> runners.Runner:
    return runners.load(exported(SAMPLES[0]).package_dir)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"picture": IMAGE}, "The inputs must be 'image', not 'picture'"),
        ({}, "The inputs must be 'image', not none"),
        ({"image": IMAGE, "other": IMAGE}, "not 'image', 'other'"),
        ({"image": IMAGE.astype(np.float64)}, "must be float32, not float64"),
        ({"image": IMAGE[0]}, r"must have the shape \['batch', 1, 8, 8\], not \[1, 8, 8\]"),
        ({"image": np.zeros((2, 1, 9, 8), np.float32)}, r"not \[2, 1, 9, 8\]"),
    ],
    ids=["name", "none", "extra", "dtype", "rank", "size"],
)
def test_a_wrong_input_is_named(runner: runners.Runner, inputs: dict, message: str) -> None:
    with pytest.raises(runners.InputError, match=message):
        runner.predict(inputs)


def test_an_index_that_does_not_exist_is_the_callers_error(exported: Export) -> None:
    sample = next(sample for sample in SAMPLES if sample.id == "reader-pt2")
    reader = runners.load(exported(sample).package_dir)

    with pytest.raises(runners.InputError):
        reader.predict({"tokens": np.full((1, 3), 5000), "scale": np.ones((1, 1), np.float32)})


def test_a_batch_answers_like_its_rows(runner: runners.Runner) -> None:
    images = np.random.default_rng(0).standard_normal((3, 1, 8, 8)).astype(np.float32)

    together = runner.predict({"image": images})["output"]

    apart = np.concatenate([runner.predict({"image": images[row : row + 1]})["output"] for row in range(3)])
    np.testing.assert_allclose(together, apart, rtol=1e-5, atol=1e-6)


def test_a_folder_that_is_no_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackageCorrupt, match=r"metadata\.json"):
        runners.load(tmp_path)
