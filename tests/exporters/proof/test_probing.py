"""Which rows of a probe a source takes."""

from dataclasses import replace

import numpy as np
from sklearn.linear_model import LinearRegression

from exporters.base import Arrays
from exporters.proof.probing import Prober
from exporters.sources.estimators import as_source


def test_a_few_rows_that_the_source_rejects_do_not_hide_the_others() -> None:
    rows = np.random.default_rng(0).normal(size=(2_000, 3)).astype(np.float32)
    source = as_source(LinearRegression().fit(rows, rows[:, 0]))
    bad = np.arange(20, 2_000, 50)

    def reference(arrays: Arrays) -> Arrays:
        if np.isnan(arrays["input"]).any():
            raise ValueError("a missing value")
        return source.reference(arrays)

    probed = rows.copy()
    probed[bad] = np.nan
    prober = Prober(replace(source, reference=reference))
    case = prober.probe_rows("gaps", {"input": probed}, "missing")
    assert case is not None
    np.testing.assert_array_equal(case.inputs["input"], np.delete(probed, bad, axis=0))
    assert f"{len(bad)} of 2000 rows rejected, 0 not tried" in prober.rejected["gaps"]
