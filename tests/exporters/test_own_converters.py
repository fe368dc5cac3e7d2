"""Estimators that skl2onnx lacks, or converts into something slow or wrong: converters of our own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from sklearn.cluster import AffinityPropagation, FeatureAgglomeration, MeanShift
from sklearn.covariance import EllipticEnvelope
from sklearn.cross_decomposition import CCA, PLSSVD, PLSCanonical
from sklearn.decomposition import FactorAnalysis, FastICA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import IsolationForest, RandomTreesEmbedding
from sklearn.impute import KNNImputer, MissingIndicator
from sklearn.isotonic import IsotonicRegression
from sklearn.kernel_approximation import AdditiveChi2Sampler, Nystroem, SkewedChi2Sampler
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.neighbors import (
    KNeighborsClassifier,
    KNeighborsRegressor,
    KNeighborsTransformer,
    LocalOutlierFactor,
    RadiusNeighborsClassifier,
    RadiusNeighborsRegressor,
)
from sklearn.neural_network import BernoulliRBM
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer, SplineTransformer, StandardScaler
from sklearn.semi_supervised import LabelSpreading

from exporters import sources
from exporters.convert import run
from exporters.errors import ConversionFailed, UnsafeCheckpoint, VerificationFailed
from exporters.request import ExportRequest

from .test_tabular_models import CELLS, KINDS, MALIGNANT, PATIENTS, PROGRESS, WINE, check, held_out

Made = tuple[Any, npt.ArrayLike]  # a fitted estimator and rows

GAPS = np.where(np.random.default_rng(1).random(WINE.shape) < 0.1, np.nan, WINE)
NONE_OF_ONE = np.where(np.arange(13) == 3, np.nan, GAPS)
STEPS = np.round(WINE / 5)
_DRAWN = np.random.default_rng(0)
TENTHS = np.round(_DRAWN.normal(size=(300, 2)), 1)
THIRDS = _DRAWN.integers(0, 3, 300)
SCALED = (WINE - WINE.mean(axis=0)) / WINE.std(axis=0)
FAR = np.vstack([held_out(SCALED), np.eye(13) * 1e30, np.eye(13) * -1e30])
PAIRS = np.column_stack([PROGRESS, -np.sqrt(PROGRESS)])


def _fitted(transformer: Any, fitted_on: npt.NDArray[Any], rows: npt.NDArray[Any]) -> Callable[[], Made]:
    return lambda: (transformer.fit(fitted_on), rows)


MODELS: dict[str, Callable[[], Made]] = {
    "isolation forest": lambda: (
        IsolationForest(n_estimators=20, random_state=0).fit(GAPS),
        np.vstack([held_out(WINE), GAPS]),
    ),
    "isolation forest of some columns": lambda: (
        IsolationForest(n_estimators=20, max_features=0.5, contamination=0.2, random_state=0).fit(WINE),
        held_out(WINE),
    ),
    "isolation forest of one row": lambda: (
        IsolationForest(n_estimators=3, max_samples=1, random_state=0).fit(WINE),
        held_out(WINE),
    ),
    "quantiles": lambda: (
        QuantileTransformer(n_quantiles=100).fit(GAPS),
        np.vstack([held_out(WINE), GAPS]),
    ),
    "quantiles, many of them equal": lambda: (
        QuantileTransformer(n_quantiles=100).fit(STEPS),
        np.vstack([held_out(WINE), STEPS]),
    ),
    "neighbours": lambda: (KNeighborsClassifier().fit(SCALED, KINDS), FAR),
    "neighbours by distance": lambda: (
        KNeighborsClassifier(weights="distance").fit(SCALED, KINDS),
        np.vstack([held_out(SCALED), SCALED]),
    ),
    "a number of the neighbours": lambda: (KNeighborsRegressor().fit(SCALED, WINE[:, 0]), FAR),
    "names of the neighbours": lambda: (
        KNeighborsClassifier().fit(SCALED, np.array(["a", "b", "c"])[KINDS]),
        FAR,
    ),
    "neighbours within a radius": lambda: (
        RadiusNeighborsClassifier(3.0, outlier_label=2).fit(SCALED, KINDS),
        FAR,
    ),
    "a number within a radius": lambda: (RadiusNeighborsRegressor(3.0).fit(SCALED, WINE[:, 0]), FAR),
    "a graph of neighbours": lambda: (KNeighborsTransformer().fit(SCALED), held_out(SCALED)),
    "a graph of neighbours, without a search tree": lambda: (
        KNeighborsTransformer().fit(CELLS),
        held_out(CELLS),
    ),
    "a graph of neighbours, unweighted": lambda: (
        KNeighborsTransformer(mode="connectivity").fit(SCALED),
        FAR,
    ),
    "outliers among neighbours": lambda: (LocalOutlierFactor(novelty=True).fit(SCALED), held_out(SCALED)),
    **{
        f"imputed by neighbours: {name}": _fitted(
            imputer, fitted_on, np.vstack([GAPS, held_out(GAPS), np.full((1, 13), np.nan), WINE])
        )
        for name, imputer, fitted_on in (
            ("alike", KNNImputer(), GAPS),
            ("by distance", KNNImputer(weights="distance"), GAPS),
            ("of complete rows", KNNImputer(n_neighbors=1), WINE),
            ("more than there are", KNNImputer(n_neighbors=500), GAPS),
            ("marked", KNNImputer(add_indicator=True), GAPS),
            ("a column of nothing", KNNImputer(), NONE_OF_ONE),
            ("a column of nothing, kept", KNNImputer(keep_empty_features=True), NONE_OF_ONE),
            ("in a pipeline", make_pipeline(KNNImputer(), StandardScaler()), GAPS),
        )
    },
    "imputed by neighbours: a number for what is missing": lambda: (
        KNNImputer(missing_values=-1).fit(np.nan_to_num(GAPS, nan=-1)),
        np.nan_to_num(GAPS, nan=-1),
    ),
    **{
        f"splines: {name}": _fitted(transformer, fitted_on, np.vstack([held_out(fitted_on), fitted_on * 1e4]))
        for name, transformer, fitted_on in (
            ("constant", SplineTransformer(), PATIENTS),
            ("straight lines", SplineTransformer(extrapolation="linear", degree=2), PATIENTS),
            ("straight lines of straight lines", SplineTransformer(extrapolation="linear", degree=1), WINE),
            ("straight lines of steps", SplineTransformer(extrapolation="linear", degree=0), WINE),
            ("continued", SplineTransformer(extrapolation="continue", degree=5), PATIENTS),
            ("periodic", SplineTransformer(extrapolation="periodic", degree=4, n_knots=7), PATIENTS),
            ("without bias", SplineTransformer(include_bias=False, order="F", degree=1), PATIENTS),
            ("sparse", SplineTransformer(sparse_output=True), PATIENTS),
            ("equal knots", SplineTransformer(knots="quantile", extrapolation="linear"), STEPS),
            ("missing values", SplineTransformer(handle_missing="zeros"), GAPS),
        )
    },
    "splines: nothing beyond the knots": lambda: (
        SplineTransformer(extrapolation="error").fit(PATIENTS),
        PATIENTS * 0.99,
    ),
    **{
        f"mixture, {kind}": lambda kind=kind: (
            GaussianMixture(3, covariance_type=kind, random_state=0).fit(SCALED),
            held_out(SCALED),
        )
        for kind in ("full", "tied", "diag", "spherical")
    },
    "mixture of Bayes": lambda: (
        BayesianGaussianMixture(n_components=3, random_state=0).fit(SCALED),
        held_out(SCALED),
    ),
    "one normal distribution": lambda: (GaussianMixture().fit(SCALED), FAR),
    "discriminant of two classes": lambda: (
        LinearDiscriminantAnalysis().fit(CELLS, MALIGNANT),
        held_out(CELLS),
    ),
    "independent components": lambda: (FastICA(4, random_state=0).fit(SCALED), held_out(SCALED)),
    "factors": lambda: (FactorAnalysis(4).fit(SCALED), held_out(SCALED)),
    "hidden units": lambda: (BernoulliRBM(5, random_state=0).fit(SCALED > 0), held_out(SCALED)),
    "canonical correlation": lambda: (CCA().fit(PATIENTS, PAIRS), held_out(PATIENTS)),
    "canonical least squares": lambda: (PLSCanonical().fit(PATIENTS, PAIRS), held_out(PATIENTS)),
    "shared directions": lambda: (PLSSVD(1).fit(PATIENTS, PAIRS), held_out(PATIENTS)),
    "pooled columns": lambda: (FeatureAgglomeration(3).fit(WINE), held_out(WINE)),
    "a constant class": lambda: (DummyClassifier().fit(WINE, KINDS), held_out(WINE)),
    "a constant": lambda: (DummyRegressor().fit(PATIENTS, PROGRESS), held_out(PATIENTS)),
    "what is missing": lambda: (MissingIndicator().fit(GAPS), GAPS),
    "an ellipse": lambda: (EllipticEnvelope(random_state=0).fit(SCALED), held_out(SCALED)),
    "a kernel": lambda: (KernelRidge(kernel="rbf", gamma=0.1).fit(PATIENTS, PROGRESS), held_out(PATIENTS)),
    "a kernel of powers": lambda: (
        KernelRidge(kernel="poly", degree=2).fit(SCALED, WINE[:, 0]),
        held_out(SCALED),
    ),
    "a sampled kernel": lambda: (Nystroem(n_components=20, random_state=0).fit(SCALED), held_out(SCALED)),
    "a skewed kernel": lambda: (SkewedChi2Sampler(n_components=9, random_state=0).fit(WINE), held_out(WINE)),
    "an additive kernel": lambda: (AdditiveChi2Sampler().fit(WINE), np.vstack([held_out(WINE), WINE * 0])),
    "spread labels": lambda: (
        LabelSpreading(gamma=0.2).fit(SCALED, np.where(np.arange(178) % 3, KINDS, -1)),
        held_out(SCALED),
    ),
    "leaves": lambda: (RandomTreesEmbedding(5, random_state=0).fit(WINE), held_out(WINE)),
    "steps": lambda: (
        IsotonicRegression().fit(PATIENTS[:, 2], PROGRESS),
        np.vstack([held_out(PATIENTS[:, 2:3]), [[-9.0], [9.0]]]),
    ),
}
# Of them the first output is a label.
LABELS: dict[str, Callable[[], Any]] = {
    "centres of affinity": lambda: AffinityPropagation(random_state=0).fit(SCALED),
    "centres of a shift": lambda: MeanShift().fit(SCALED),
}


@pytest.mark.parametrize("name", MODELS)
def test_it_answers_as_the_estimator(name: str, tmp_path: Path) -> None:
    estimator, rows = MODELS[name]()
    check(estimator, rows, tmp_path)


@pytest.mark.parametrize("name", LABELS)
def test_its_labels_are_those_of_the_estimator(name: str, tmp_path: Path) -> None:
    estimator = LABELS[name]()
    joblib.dump(estimator, tmp_path / "model.joblib")
    assert run(ExportRequest(tmp_path / "model.joblib", tmp_path / "onnx", "onnx")).verdict == "verified"

    rows = FAR.astype(np.float32)
    session = onnxruntime.InferenceSession(tmp_path / "onnx" / "model.onnx")
    np.testing.assert_array_equal(session.run(["label"], {"input": rows})[0], estimator.predict(rows))


@pytest.mark.parametrize(
    ("make", "target"),
    [
        (lambda: make_pipeline(StandardScaler(), KNeighborsClassifier()), THIRDS),
        (lambda: KNNImputer(n_neighbors=3), None),
    ],
)
def test_neighbours_that_are_equally_near_are_found(make: Any, target: Any, tmp_path: Path) -> None:
    """Data of one digit: which of two equally near rows counts, scikit-learn's search or numpy decides."""
    joblib.dump(make().fit(TENTHS, target), tmp_path / "model.joblib")

    with pytest.raises(VerificationFailed, match="ties"):
        run(ExportRequest(tmp_path / "model.joblib", tmp_path / "onnx", "onnx"))


def test_an_imputer_of_many_columns_is_refused(tmp_path: Path) -> None:
    joblib.dump(KNNImputer().fit(np.zeros((3, 65))), tmp_path / "model.joblib")

    with pytest.raises(ConversionFailed, match="at most 64 columns and 20,000,000 numbers"):
        run(ExportRequest(tmp_path / "model.joblib", tmp_path / "onnx", "onnx"))


@pytest.mark.parametrize("suffix", ["joblib", "skops"])
def test_splines_are_loaded(suffix: str, tmp_path: Path) -> None:
    estimator = make_pipeline(SplineTransformer(), Ridge()).fit(PATIENTS, PROGRESS)

    check(estimator, held_out(PATIENTS), tmp_path, suffix, within=1e-5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("_t", np.zeros(5)),
        ("_t", np.array([np.nan] * 11)),
        ("_t", np.arange(11)[::-1] * 1.0),
        ("_c", np.eye(6)),
        ("_c", np.eye(7, dtype=np.float32)),
        ("k", 7),
        ("k", -1),
        ("extrapolate", "periodic"),
    ],
)
def test_splines_that_read_past_their_knots_are_refused(name: str, value: Any, tmp_path: Path) -> None:
    transformer = SplineTransformer().fit(PATIENTS)
    vars(transformer.bsplines_[2])[name] = value
    joblib.dump(transformer, tmp_path / "model.joblib")

    with pytest.raises(UnsafeCheckpoint, match="a spline with impossible knots or coefficients"):
        sources.load(tmp_path / "model.joblib", {})


def test_an_isolation_forest_of_columns_out_of_range_is_refused(tmp_path: Path) -> None:
    forest = IsolationForest(n_estimators=3, max_features=0.5, random_state=0).fit(WINE)
    forest.estimators_features_[1][0] = 4_000_000
    joblib.dump(forest, tmp_path / "model.joblib")

    with pytest.raises(UnsafeCheckpoint, match="columns out of range"):
        sources.load(tmp_path / "model.joblib", {})
