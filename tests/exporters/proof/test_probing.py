"""Which rows of a probe a source takes."""

from dataclasses import replace

import numpy as np
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from exporters.base import Arrays
from exporters.proof.probing import Prober
from exporters.sources import answers
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


def test_columns_whose_missing_value_is_rejected_are_found_from_rows_that_miss_one_value() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(64, 8)).astype(np.float32)
    source = as_source(LinearRegression().fit(rows, rows[:, 0]))
    required = [1, 4]
    calls = []

    def reference(arrays: Arrays) -> Arrays:
        calls.append(len(arrays["input"]))
        if np.isnan(arrays["input"][:, required]).any():
            raise ValueError("a missing value")
        return source.reference({"input": np.nan_to_num(arrays["input"])})

    probed = rows.copy()
    probed[8:][random.random((56, 8)) < 0.3] = np.nan
    np.fill_diagonal(probed[:8], np.nan)
    accepted = ~np.isnan(probed[:, required]).any(axis=1)
    prober = Prober(replace(source, reference=reference))
    case = prober.probe_rows("gaps", {"input": probed}, "missing")

    assert case is not None
    np.testing.assert_array_equal(case.inputs["input"], probed[accepted])
    np.testing.assert_array_equal(
        case.expected["variable"],
        source.reference({"input": np.nan_to_num(probed[accepted])})["variable"],
    )
    assert f"{(~accepted).sum()} of 64 rows rejected, 0 not tried" in prober.rejected["gaps"]
    assert len(calls) < 64 < sum(calls)


def test_the_steps_of_a_pipeline_transform_rows_once_for_all_outputs() -> None:
    rows = np.random.default_rng(0).normal(size=(20, 3))
    calls = []

    def seen(rows: np.ndarray) -> np.ndarray:
        calls.append(len(rows))
        return rows

    model = make_pipeline(FunctionTransformer(seen), StandardScaler(), LogisticRegression())
    model.fit(rows, rows[:, 0] > 0)
    answer = answers.of(model)
    calls.clear()
    found = answer(rows)

    assert calls == [20]
    np.testing.assert_array_equal(found["probabilities"], model.predict_proba(rows))
    np.testing.assert_array_equal(found["label"], model.predict(rows).astype(int))
