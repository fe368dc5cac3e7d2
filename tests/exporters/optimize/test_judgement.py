"""The judgement of an artefact beside the original model, on the rows of a dataset."""

from pathlib import Path

import numpy as np

from exporters.base import Arrays, TensorSpec
from exporters.datasets import DatasetFile, open_dataset
from exporters.optimize.judgement import Judge


def test_a_model_that_writes_to_its_inputs_does_not_change_those_of_the_other(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((100, 3)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, y=x.argmin(axis=1))
    data = open_dataset(DatasetFile(tmp_path / "data.npz", "npz"), [TensorSpec("x", "float32", ("batch", 3))])

    def writes(inputs: Arrays) -> Arrays:
        scores = inputs["x"]
        scores *= -1
        return {"scores": scores}

    found = Judge(writes, None, data).judge(writes)
    assert (found["original"], found["artefact"], found["passed"]) == (1, 1, True)
