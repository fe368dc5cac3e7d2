"""The cases of the suite of estimators: every estimator of scikit-learn, everyday pipelines, the boosters."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import lightgbm
import numpy as np
import xgboost
from sklearn.base import is_regressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    BaggingClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.experimental import enable_halving_search_cv, enable_iterative_imputer  # noqa: F401
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import (
    RFE,
    GenericUnivariateSelect,
    SelectFdr,
    SelectFpr,
    SelectFwe,
    SelectKBest,
    SelectPercentile,
)
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
    TargetEncoder,
)
from sklearn.svm import SVC, LinearSVC
from sklearn.utils import all_estimators

from .estimator_data import data

Settings = Mapping[str, Any]
Made = tuple[Any, str]  # an estimator that is not fitted, and what it is fitted on


@dataclass(frozen=True)
class Case:
    """``fit``: what its ``fit`` takes beside rows and target."""

    name: str
    estimator: Any
    data: str
    fit: Settings = field(default_factory=dict)

    def fitted(self) -> Any:
        rows, target = data(self.data)
        return self.estimator.fit(rows, target, **self.fit)


def cases() -> Iterator[Case]:
    """Each estimator on two sets of data, then pipelines, then boosters."""
    for name, kind in all_estimators():
        # One that answers only the rows that it was fitted on, or labels, is no source.
        if name in _OF_LABELS or not any(hasattr(kind, one) for one in ("predict", "transform")):
            continue
        for on in _data_of(name, kind):
            yield Case(f"{name} on {on}", _built(name, kind), on)
    for name, (estimator, on) in PIPELINES.items():
        yield Case(f"pipeline: {name}", estimator, on)
    yield from _of_boosters()


_OF_LABELS = ("LabelBinarizer", "LabelEncoder", "MultiLabelBinarizer")
_LINEAR, _LINE = LogisticRegression(max_iter=300), Ridge()

# What the constructor of an estimator needs, or what keeps it from taking minutes on these data.
_SETTINGS: dict[str, Settings] = {
    "ColumnTransformer": {
        "transformers": [("scaled", StandardScaler(), [0, 1, 2])],
        "remainder": "passthrough",
    },
    "DictionaryLearning": {"n_components": 3, "max_iter": 3},
    "FeatureHasher": {"n_features": 8},
    "FeatureUnion": {"transformer_list": [("range", MinMaxScaler()), ("parts", PCA(2))]},
    "FrozenEstimator": {"estimator": LogisticRegression(max_iter=300).fit(*data("wine, scaled"))},
    "GaussianProcessClassifier": {"max_iter_predict": 5},
    "GaussianRandomProjection": {"n_components": 4},
    "HashingVectorizer": {"n_features": 16},
    "MiniBatchDictionaryLearning": {"n_components": 3, "max_iter": 3},
    "MiniBatchSparsePCA": {"n_components": 3, "max_iter": 3},
    "PLSSVD": {"n_components": 1},
    "Pipeline": {"steps": [("scale", StandardScaler()), ("linear", _LINEAR)]},
    "LatentDirichletAllocation": {"max_iter": 2},
    "LocalOutlierFactor": {"novelty": True},
    "QuadraticDiscriminantAnalysis": {"reg_param": 0.01},
    "RFECV": {"step": 5, "cv": 2},
    "RadiusNeighborsClassifier": {"radius": 4.0, "outlier_label": 0},
    "RadiusNeighborsRegressor": {"radius": 4.0},
    "RadiusNeighborsTransformer": {"radius": 4.0},
    "RandomTreesEmbedding": {"n_estimators": 10},
    "SelfTrainingClassifier": {"estimator": _LINEAR},
    "SequentialFeatureSelector": {"n_features_to_select": 2, "cv": 2},
    "SparseCoder": {"dictionary": np.eye(3, 13)},
    "SparsePCA": {"n_components": 3, "max_iter": 3},
    "SparseRandomProjection": {"n_components": 4},
}

# What an estimator is fitted on where the sets of every other one say nothing, or are rejected.
_DATA: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("CategoricalNB", "OneHotEncoder", "OrdinalEncoder", "TargetEncoder"), ("codes",)),
    **dict.fromkeys(("ClassifierChain", "MultiOutputClassifier"), ("wine, two questions",)),
    **dict.fromkeys(("FixedThresholdClassifier", "TunedThresholdClassifierCV"), ("cancer",)),
    **dict.fromkeys(("IterativeImputer", "KNNImputer", "MissingIndicator"), ("wine, gaps",)),
    "SimpleImputer": ("wine, gaps", "wine"),
    **dict.fromkeys(("CountVectorizer", "TfidfVectorizer", "HashingVectorizer"), ("texts",)),
    **dict.fromkeys(("DictVectorizer", "FeatureHasher"), ("records",)),
    "GaussianProcessClassifier": ("wine, scaled", "cancer"),
    **dict.fromkeys(
        ("RadiusNeighborsClassifier", "RadiusNeighborsRegressor", "RadiusNeighborsTransformer"),
        ("wine, scaled",),
    ),
    "BernoulliRBM": ("digits, shares",),
    "FrozenEstimator": ("wine, scaled",),
    **dict.fromkeys(("LabelPropagation", "LabelSpreading"), ("wine, scaled",)),
    "GaussianProcessRegressor": ("diabetes", "wine, scaled"),
    "IsotonicRegression": ("diabetes, one column",),
    "KernelCenterer": ("wine, kernel",),
    "PatchExtractor": ("images",),
    "SelfTrainingClassifier": ("wine, few labels",),
    "SparseCoder": ("wine",),
}
_OF_SEVERAL_NUMBERS = ("CCA", "PLS", "MultiTask", "MultiOutputRegressor", "RegressorChain")
_ALSO_ON_DIGITS = ("KNeighborsClassifier", "LogisticRegression", "PCA", "RandomForestClassifier", "SVC")


def _data_of(name: str, kind: Any) -> tuple[str, ...]:
    if name in _DATA:
        return _DATA[name]
    if name.startswith(_OF_SEVERAL_NUMBERS):
        return ("diabetes, two numbers",)
    if is_regressor(_built(name, kind)):
        return ("diabetes", "wine, amounts")
    return ("wine", "cancer", *(("digits",) if name in _ALSO_ON_DIGITS else ()))


def _built(name: str, kind: Any) -> Any:
    """In its everyday construction; with an estimator inside where it needs one."""
    parameters = inspect.signature(kind.__init__).parameters
    inner: Any = _LINE if "Regressor" in name or name == "RegressorChain" else _LINEAR
    given: dict[str, Any] = {
        "estimator": inner,
        "estimators": [("one", inner), ("two", inner)],
        "param_distributions": {"fit_intercept": [True, False]},
        "param_grid": {"fit_intercept": [True, False]},
    }
    needed = {key: given[key] for key in parameters.keys() & given.keys() if _is_needed(parameters[key])}
    seeded = {"random_state": 0} if "random_state" in parameters else {}
    return kind(**{**needed, **seeded, **_SETTINGS.get(name, {})})


def _is_needed(parameter: inspect.Parameter) -> bool:
    return parameter.default is inspect.Parameter.empty


def _scaled() -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))


_ALL_BUT_FOUR = slice(4, 13)
_ENCODED = ("codes", OneHotEncoder(handle_unknown="ignore"), [0, 1])
_OF_FRAMES = [
    ("age", StandardScaler(), ["age"]),
    ("income", make_pipeline(SimpleImputer(), StandardScaler()), ["income"]),
    ("city", OneHotEncoder(handle_unknown="ignore"), ["city"]),
    ("size", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), ["size"]),
]

PIPELINES: dict[str, Made] = {
    "scaled linear": (_scaled(), "wine"),
    "scaled linear, names": (_scaled(), "wine, names"),
    "scaled SVC": (make_pipeline(StandardScaler(), SVC()), "wine"),
    "scaled neighbours": (make_pipeline(MinMaxScaler(), KNeighborsClassifier()), "wine"),
    "scaled forest": (make_pipeline(RobustScaler(), RandomForestClassifier(10, random_state=0)), "wine"),
    "scaled boosting": (
        make_pipeline(StandardScaler(), GradientBoostingClassifier(n_estimators=10, random_state=0)),
        "wine",
    ),
    "scaled XGBoost": (make_pipeline(StandardScaler(), xgboost.XGBClassifier(n_estimators=10)), "cancer"),
    "scaled LightGBM": (
        make_pipeline(MinMaxScaler(), lightgbm.LGBMClassifier(n_estimators=10, verbose=-1)),
        "cancer",
    ),
    "components": (make_pipeline(StandardScaler(), PCA(4), _scaled()), "wine"),
    "imputed": (make_pipeline(SimpleImputer(), _scaled()), "wine, gaps"),
    "imputed, indicated": (make_pipeline(SimpleImputer(add_indicator=True), _scaled()), "wine, gaps"),
    "imputed forest": (
        make_pipeline(SimpleImputer(strategy="median"), RandomForestClassifier(10, random_state=0)),
        "wine, gaps",
    ),
    "neighbours imputed": (make_pipeline(KNNImputer(), _scaled()), "wine, gaps"),
    "polynomial": (make_pipeline(StandardScaler(), PolynomialFeatures(), Ridge()), "diabetes"),
    "splines": (make_pipeline(SplineTransformer(), LinearRegression()), "diabetes"),
    "quantiles": (make_pipeline(QuantileTransformer(n_quantiles=50), Ridge()), "diabetes"),
    "power": (make_pipeline(PowerTransformer(), Ridge()), "diabetes"),
    "bins": (make_pipeline(KBinsDiscretizer(), Ridge()), "diabetes"),
    "columns": (
        make_pipeline(
            ColumnTransformer([("a", StandardScaler(), slice(0, 4)), ("b", MinMaxScaler(), _ALL_BUT_FOUR)]),
            _scaled(),
        ),
        "wine",
    ),
    "one-hot": (
        make_pipeline(ColumnTransformer([_ENCODED, ("sizes", MinMaxScaler(), [2, 3])]), LogisticRegression()),
        "codes and numbers",
    ),
    "one-hot forest": (
        make_pipeline(
            ColumnTransformer([_ENCODED], remainder="passthrough"), RandomForestRegressor(10, random_state=0)
        ),
        "codes, amounts",
    ),
    "ordinal": (
        make_pipeline(
            OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), LogisticRegression()
        ),
        "codes",
    ),
    "target encoder": (
        make_pipeline(
            ColumnTransformer([("t", TargetEncoder(), [0, 1])], remainder="passthrough"), _scaled()
        ),
        "codes and numbers",
    ),
    "passthrough": (
        make_pipeline(
            ColumnTransformer([("a", StandardScaler(), slice(0, 4))], remainder="passthrough"), Ridge()
        ),
        "wine",
    ),
    "passthrough first": (make_pipeline("passthrough", _scaled()), "wine"),
    "logarithm": (make_pipeline(FunctionTransformer(np.log1p), _scaled()), "wine"),
    "union": (
        make_pipeline(FeatureUnion([("p", PCA(2)), ("s", StandardScaler())]), _scaled()),
        "wine",
    ),
    **{
        f"chosen by {type(one).__name__}": (make_pipeline(StandardScaler(), one, _scaled()), "wine")
        for one in (
            SelectKBest(k=4),
            SelectPercentile(percentile=30),
            SelectFpr(),
            SelectFdr(),
            SelectFwe(),
            GenericUnivariateSelect(mode="k_best", param=3),
        )
    },
    "elimination": (make_pipeline(StandardScaler(), RFE(LogisticRegression())), "wine"),
    "grid": (GridSearchCV(_scaled(), {"logisticregression__C": [0.1, 1]}, cv=3), "wine"),
    "random search": (
        RandomizedSearchCV(_scaled(), {"logisticregression__C": [0.1, 1]}, n_iter=2, cv=3, random_state=0),
        "wine",
    ),
    "bag": (BaggingClassifier(_scaled(), n_estimators=3, random_state=0), "wine"),
    "vote": (VotingClassifier([("a", _scaled()), ("b", GaussianNB())], voting="soft"), "wine"),
    "vote by majority": (VotingClassifier([("a", _scaled()), ("b", GaussianNB())]), "wine"),
    "stack": (
        StackingClassifier([("a", _scaled()), ("b", RandomForestClassifier(5, random_state=0))]),
        "wine",
    ),
    "calibrated": (CalibratedClassifierCV(LinearSVC(), cv=3), "wine"),
    "calibrated by steps": (CalibratedClassifierCV(_scaled(), method="isotonic", cv=3), "wine"),
    "calibrated forest": (
        CalibratedClassifierCV(RandomForestClassifier(5, random_state=0), method="isotonic", cv=3),
        "cancer",
    ),
    "target transformed": (
        TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=np.expm1),
        "diabetes",
    ),
    "outliers": (make_pipeline(StandardScaler(), IsolationForest(n_estimators=20, random_state=0)), "wine"),
    "words": (make_pipeline(TfidfVectorizer(), LogisticRegression()), "texts"),
    "frame": (make_pipeline(ColumnTransformer(_OF_FRAMES), LogisticRegression(max_iter=1000)), "frame"),
    "frame, forest": (
        make_pipeline(ColumnTransformer(_OF_FRAMES), RandomForestClassifier(10, random_state=0)),
        "frame",
    ),
    "frame, boosting": (
        make_pipeline(
            ColumnTransformer(
                [("codes", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), [1, 3])],
                remainder="passthrough",
            ),
            HistGradientBoostingClassifier(max_iter=10, categorical_features=[0, 1]),
        ),
        "frame",
    ),
}


def _of_boosters() -> Iterator[Case]:
    few: Settings = {"n_estimators": 10}
    quiet: Settings = {**few, "verbose": -1}
    for on in ("wine", "cancer", "wine, gaps"):
        for name, model in {
            "XGB": xgboost.XGBClassifier(**few),
            "XGB dart": xgboost.XGBClassifier(**few, booster="dart"),
            "XGB linear": xgboost.XGBClassifier(**few, booster="gblinear"),
            "XGBRF": xgboost.XGBRFClassifier(**few),
            "LGBM": lightgbm.LGBMClassifier(**quiet),
            "LGBM dart": lightgbm.LGBMClassifier(**quiet, boosting_type="dart"),
            "LGBM goss": lightgbm.LGBMClassifier(**quiet, data_sample_strategy="goss"),
            "LGBM forest": lightgbm.LGBMClassifier(
                **quiet, boosting_type="rf", bagging_freq=1, bagging_fraction=0.7
            ),
            "HGB": HistGradientBoostingClassifier(max_iter=10),
        }.items():
            yield Case(f"booster: {name} on {on}", model, on)
    for name, model in {
        "XGB number": xgboost.XGBRegressor(**few),
        "XGB number, dart": xgboost.XGBRegressor(**few, booster="dart"),
        "XGB number, linear": xgboost.XGBRegressor(**few, booster="gblinear"),
        "XGBRF number": xgboost.XGBRFRegressor(**few),
        "XGB counts": xgboost.XGBRegressor(**few, objective="count:poisson"),
        "XGB gamma": xgboost.XGBRegressor(**few, objective="reg:gamma"),
        "XGB absolute": xgboost.XGBRegressor(**few, objective="reg:absoluteerror"),
        "XGB early": xgboost.XGBRegressor(n_estimators=30, max_depth=2),
        "LGBM number": lightgbm.LGBMRegressor(**quiet),
        "LGBM absolute": lightgbm.LGBMRegressor(**quiet, objective="mae"),
        "LGBM counts": lightgbm.LGBMRegressor(**quiet, objective="poisson"),
        "LGBM gamma": lightgbm.LGBMRegressor(**quiet, objective="gamma"),
        "LGBM lines": lightgbm.LGBMRegressor(**quiet, linear_tree=True),
        "LGBM zeros": lightgbm.LGBMRegressor(**quiet, zero_as_missing=True),
        "HGB number": HistGradientBoostingRegressor(max_iter=10),
        "HGB counts": HistGradientBoostingRegressor(max_iter=10, loss="poisson"),
    }.items():
        yield Case(f"booster: {name}", model, "diabetes")
    yield from _of_special_boosters(few, quiet)


def _of_special_boosters(few: Settings, quiet: Settings) -> Iterator[Case]:
    """Several targets, ranks, and columns of categories."""
    coded: Settings = {"enable_categorical": True, "feature_types": ["c", "c", "q", "q"]}
    groups: Settings = {"group": [78, 100]}
    columns: Settings = {"categorical_feature": [0, 1]}
    histogram: Settings = {"max_iter": 10, "categorical_features": [0, 1]}
    two = "diabetes, two numbers"
    yield Case("booster: XGB two numbers", xgboost.XGBRegressor(**few), two)
    yield Case(
        "booster: XGB two numbers in a tree",
        xgboost.XGBRegressor(**few, multi_strategy="multi_output_tree"),
        two,
    )
    yield Case("booster: XGB ranks", xgboost.XGBRanker(**few), "wine", groups)
    yield Case("booster: LGBM ranks", lightgbm.LGBMRanker(**quiet), "wine", groups)
    for on in ("codes and numbers", "codes, amounts"):
        classifies = on == "codes and numbers"
        boosters = (
            (xgboost.XGBClassifier, lightgbm.LGBMClassifier, HistGradientBoostingClassifier)
            if classifies
            else (xgboost.XGBRegressor, lightgbm.LGBMRegressor, HistGradientBoostingRegressor)
        )
        yield Case(f"booster: XGB on {on}", boosters[0](**few, **coded), on)
        yield Case(f"booster: LGBM on {on}", boosters[1](**quiet), on, columns)
        yield Case(f"booster: HGB on {on}", boosters[2](**histogram), on)
