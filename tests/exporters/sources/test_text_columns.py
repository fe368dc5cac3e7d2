"""Columns of texts beside numbers and categories: counted by the package, verified on texts."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import polars
import pytest
import xgboost
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import (
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
)

from exporters import runners
from exporters.convert import run
from exporters.errors import ExportError, InvalidSource
from exporters.processing.pipeline import Pipeline
from exporters.processing.table import ColumnError
from exporters.processing.vectorizer import MAX_CHARACTERS, Vectorizer
from exporters.proof import cases
from exporters.request import ExportRequest
from exporters.sources import estimators, term_counts
from exporters.sources.hostile_texts import HOSTILE
from tests.exporters.reproducible import contents
from tests.exporters.text_columns import REVIEWS, fitted, frame, kinds

LETTERS = ("letters", TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 3)), "review")
COMPONENTS = ("some", make_pipeline(TfidfVectorizer(), TruncatedSVD(3, random_state=0)), "review")
CATEGORIES = ("cat", OneHotEncoder(handle_unknown="ignore"), ["shop"])
NUMBERS = ("num", StandardScaler(), ["stars"])
WORDS = ("text", TfidfVectorizer(), "review")
LOGISTIC = LogisticRegression()


def columns(*transformers: Any, **more: Any) -> ColumnTransformer:
    return ColumnTransformer([*transformers, NUMBERS, CATEGORIES], **more)


MODELS: dict[str, Callable[[], Any]] = {
    "beside numbers and categories": lambda: make_pipeline(columns(WORDS), LOGISTIC),
    "two columns": lambda: make_pipeline(
        columns(WORDS, ("title", CountVectorizer(analyzer="char", ngram_range=(1, 2)), "title")), LOGISTIC
    ),
    "read twice": lambda: make_pipeline(columns(WORDS, LETTERS), LOGISTIC),
    "the rest passes through": lambda: make_pipeline(
        ColumnTransformer([WORDS, CATEGORIES, ("no", "drop", ["title", "weight"])], remainder="passthrough"),
        LOGISTIC,
    ),
    "by position": lambda: make_pipeline(
        make_column_transformer((StandardScaler(), [1]), (CountVectorizer(), 0), (TfidfVectorizer(), -2)),
        LOGISTIC,
    ),
    "alone": lambda: make_pipeline(ColumnTransformer([WORDS]), MultinomialNB()),
    "a union": lambda: make_pipeline(
        columns(("both", make_union(TfidfVectorizer(), CountVectorizer(binary=True)), "review")), LOGISTIC
    ),
    "components": lambda: make_pipeline(columns(COMPONENTS), LOGISTIC),
    "forest": lambda: make_pipeline(columns(WORDS), RandomForestClassifier(10, random_state=0)),
    "XGBoost, whose zeros are missing": lambda: make_pipeline(
        columns(WORDS, sparse_threshold=1.0), xgboost.XGBClassifier(n_estimators=5)
    ),
    "LightGBM": lambda: make_pipeline(
        columns(WORDS), lightgbm.LGBMClassifier(n_estimators=5, min_child_samples=2, verbose=-1)
    ),
    "number": lambda: make_pipeline(columns(WORDS), Ridge()),
    "search": lambda: GridSearchCV(make_pipeline(columns(WORDS), LOGISTIC), {"memory": [None]}, cv=2),
    "calibrated": lambda: CalibratedClassifierCV(make_pipeline(columns(WORDS), LOGISTIC), cv=2),
    "frozen": lambda: CalibratedClassifierCV(
        FrozenEstimator(make_pipeline(columns(WORDS), LOGISTIC).fit(frame(), kinds())), cv=2
    ),
    "vote": lambda: VotingClassifier(
        [
            ("a", make_pipeline(columns(WORDS), LOGISTIC)),
            ("b", make_pipeline(columns(("text", CountVectorizer(), "title")), LOGISTIC)),
        ],
        voting="soft",
    ),
    "union of columns": lambda: make_pipeline(
        make_union(ColumnTransformer([WORDS]), ColumnTransformer([NUMBERS, CATEGORIES])), LOGISTIC
    ),
    "transformer": lambda: columns(WORDS),
    "missing numbers": fitted,
}


def asked() -> polars.DataFrame:
    """Every hostile text in both columns; unknown shops, and a number outside the range."""
    rows = range(4 * len(HOSTILE))
    table = frame(len(rows))
    hostile = [HOSTILE[row % len(HOSTILE)] for row in rows]
    given = {
        "review": [hostile[row] if row % 2 else table["review"][row] for row in rows],
        "title": [hostile[-row] if row % 3 else "FINE no" for row in rows],
        "shop": ["Oslo" if row % 5 == 0 else table["shop"][row] for row in rows],
        "stars": [1e6 if row == 7 else table["stars"][row] for row in rows],
    }
    return table.with_columns(**{name: polars.Series(values) for name, values in given.items()})


def targets(name: str) -> Any:
    if name == "number":
        return np.arange(48.0) % 5
    return [["bad", "fine", "good"].index(kind) for kind in kinds()] if name.startswith("XGB") else kinds()


def packaged(model: Any, folder: Path, format_name: str = "onnx", **request: Any) -> Path:
    joblib.dump(model, folder / "model.joblib")
    run(ExportRequest(folder / "model.joblib", folder / format_name, format_name, **request))
    return folder / format_name


def read(package: Path, name: str) -> Any:
    return json.loads((package / name).read_bytes())


def answers(package: Path, table: Any) -> dict[str, Any]:
    pipeline = Pipeline(read(package, "metadata.json"), package)
    assert pipeline.takes is None
    return dict(runners.load(package).predict(pipeline.records(table)))


@pytest.mark.parametrize(
    ("name", "format_name"),
    [*((name, "onnx") for name in MODELS), ("two columns", "pickle"), ("vote", "pickle")],
)
def test_a_column_of_texts_is_verified_and_right(name: str, format_name: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    given = frame().fill_null(0.5) if name == "the rest passes through" else frame()
    model.fit(given, targets(name))
    table = asked().fill_null(0.5)

    package = packaged(model, tmp_path, format_name)

    found = answers(package, table)
    if hasattr(model, "predict_proba"):
        np.testing.assert_allclose(found["probabilities"], model.predict_proba(table), rtol=1e-3, atol=1e-5)
    elif hasattr(model, "predict"):
        np.testing.assert_allclose(found["variable"][:, 0], model.predict(table), rtol=1e-3, atol=1e-3)
    else:
        expected = model.transform(table)
        expected = expected.toarray() if hasattr(expected, "toarray") else expected
        np.testing.assert_allclose(found["variable"], expected, rtol=1e-3, atol=1e-5)
    fidelity = read(package, "fidelity.json")
    assert fidelity["verdict"] == "verified"
    assert fidelity["probes"]["text"]["rows"] > len(HOSTILE)
    assert fidelity["coverage"]["terms"] == fidelity["coverage"]["terms_reached"] > 9
    if name not in ("alone", "by position"):
        assert {"categories", "unknown categories", "extremes"} <= fidelity["probes"].keys()


def test_metadata_and_the_terms_name_the_columns(tmp_path: Path) -> None:
    package = packaged(fitted(), tmp_path)

    metadata = read(package, "metadata.json")
    assert [tuple(column.values()) for column in metadata["table"]["columns"]] == [
        ("review", "text", None, False, False),
        ("stars", "number", None, False, False),
        ("shop", "string", ["Lyon", "Nice", "Paris"], True, True),
        ("title", "unused", None, True, False),
        ("weight", "number", None, True, False),
    ]
    assert (metadata["table"]["vectorizer"], metadata["vectorizer"]) == ("vectorizer.json", None)
    (part,) = read(package, "vectorizer.json")["parts"]
    assert part["column"] == "review"
    assert metadata["input_spec"]["shape"] == ["batch", 5 + len(part["terms"])]


RECORD = {"review": "GOOD oil, naive cafe", "stars": 4, "shop": "Nice", "weight": None}


def test_every_form_of_a_table_gives_the_same_rows(tmp_path: Path) -> None:
    package = packaged(fitted(), tmp_path)
    table = Pipeline(read(package, "metadata.json"), package).table
    assert table is not None
    text = '"bad, ""engine"",\nand tyres"'
    second = {"shop": "Oslo", "weight": 1.5, "stars": 0, "review": 'bad, "engine",\nand tyres', "title": "x"}
    csv = f'weight,review,shop,stars\n,"GOOD oil, naive cafe",Nice,4\n1.5,{text},Oslo,0\n'
    rows = [list(RECORD.values()), [second[name] for name in RECORD]]
    forms: list[Any] = [
        {"columns": list(RECORD), "data": rows},
        csv,
        csv.encode(),
        polars.DataFrame([RECORD, {name: second[name] for name in RECORD}]),
    ]
    expected = table.rows([RECORD, second])
    assert expected[:, 5:].sum(axis=1).tolist() == [4, 4]
    for form in forms:
        np.testing.assert_array_equal(table.rows(form), expected)
    empty = table.rows("review,stars,shop,weight\n,1,Nice,\n")
    assert not empty[:, 5:].any()


@pytest.mark.parametrize(
    ("changed", "column", "what"),
    [
        ({"review": ...}, "review", "is missing"),
        ({"review": None}, "review", "missing value"),
        ({"review": float("nan")}, "review", "missing value"),
        ({"review": 3}, "review", "takes texts"),
        ({"review": "x" * (MAX_CHARACTERS + 1)}, "review", "1,000,001 characters"),
        ({"stars": "four"}, "stars", "takes numbers"),
    ],
)
def test_a_wrong_column_is_named(changed: Any, column: str, what: str, tmp_path: Path) -> None:
    package = packaged(fitted(), tmp_path)
    table = Pipeline(read(package, "metadata.json"), package).table
    assert table is not None
    record = {name: value for name, value in (RECORD | changed).items() if value is not ...}

    with pytest.raises(ColumnError, match=what) as refusal:
        table.rows([RECORD, record])

    assert refusal.value.column == column
    with pytest.raises(ValueError, match="send fewer at a time"):
        table.rows([RECORD] * 100, limit_bytes=1000)


def test_the_python_wrapper_takes_texts_by_name_and_replays_them(tmp_path: Path) -> None:
    package = packaged(fitted(), tmp_path)
    runtime = package / "runtimes/python"
    (tmp_path / "rows.csv").write_text('review,stars,shop,weight\n"GOOD oil, naive cafe",4,Nice,\n')
    code = (
        "import json; from model_wrapper import ModelWrapper\n"
        f"answer = ModelWrapper().predict_table([{RECORD!r}])\n"
        "print(json.dumps({name: array.tolist() for name, array in answer.items()}))"
    )

    asked = subprocess.run([sys.executable, "-B", "-c", code], cwd=runtime, capture_output=True, check=True)
    command = [sys.executable, "-B", "model_wrapper.py", str(tmp_path / "rows.csv"), "--replay"]
    told = subprocess.run(command, cwd=runtime, capture_output=True, text=True, check=True)

    outputs = json.loads(asked.stdout)
    expected = fitted().predict_proba(polars.DataFrame([RECORD], schema_overrides={"weight": polars.Float64}))
    np.testing.assert_allclose(outputs["probabilities"], expected, atol=1e-6)
    line, replayed = told.stdout.splitlines()
    assert json.loads(line)["outputs"] == outputs
    assert replayed == "replay: passed"
    document = read(package, "vectorizer.json")
    document["parts"][0]["terms"].reverse()
    (package / "vectorizer.json").write_text(json.dumps(document))
    replay = [*command[:3], "--replay"]
    wrong = subprocess.run(replay, cwd=runtime, capture_output=True, check=False, text=True)
    assert (wrong.returncode, "the columns of input" in wrong.stderr) == (1, True)


def test_a_package_with_a_column_of_texts_is_reproducible(tmp_path: Path) -> None:
    joblib.dump(fitted(), tmp_path / "model.joblib")
    for name in ("one", "two"):
        run(ExportRequest(tmp_path / "model.joblib", tmp_path / name, "onnx"))

    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_package_that_counts_otherwise_is_not_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Vectorizer.counts
    monkeypatch.setattr(Vectorizer, "counts", lambda self, given: right(self, given)[:, ::-1])

    with pytest.raises(InvalidSource, match=r"TfidfVectorizer counts the terms .* differently"):
        packaged(fitted(), tmp_path)


def test_many_terms_share_the_rows_of_a_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(term_counts, "_MOST_CELLS", 500)
    source = estimators.as_source(fitted())

    rows: dict[str, int] = {}
    for kind, arrays in source.probes():
        rows[kind] = max(rows.get(kind, 0), len(arrays["input"]))

    assert max(rows[kind] for kind in rows if kind != "text") <= 500 // source.inputs[0].shape[1]
    assert source.coverage["terms_reached"] == source.coverage["terms"]


def nested() -> Any:
    inner = ColumnTransformer([("text", TfidfVectorizer(), "review")])
    return ColumnTransformer([("inner", inner, ["review", "stars"]), CATEGORIES]).fit(frame())


def listed() -> Any:
    """As fitted on a data frame of pandas, of which scikit-learn counts the terms of the names."""
    model = ColumnTransformer([WORDS]).fit(frame())
    model.transformers_[0] = ("text", model.transformers_[0][1], ["review"])
    return model


def behind() -> Any:
    model = make_pipeline(ColumnTransformer([NUMBERS]), StandardScaler()).fit(frame())
    model.steps.append(("counts", CountVectorizer().fit(REVIEWS)))
    return model


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a list of one column": (
        listed,
        "'text' gives a vectorizer a list of columns. Name one column: 'review' instead",
    ),
    "a category too": (
        lambda: columns(WORDS, ("codes", OrdinalEncoder(), ["review"])).fit(frame()),
        "'review' is read by a vectorizer, as a text, and by an encoder",
    ),
    "columns in columns": (nested, "Fit the outermost ColumnTransformer on a data frame"),
    "columns without names": (
        lambda: ColumnTransformer([("text", TfidfVectorizer(), 0), ("num", MinMaxScaler(), [1])]).fit(
            frame().select("review", "stars").to_numpy()
        ),
        "Fit the outermost ColumnTransformer on a data frame",
    ),
    "behind another step": (
        behind,
        "the output of another step of the pipeline",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_column_of_texts_is_refused_with_the_cause(name: str, tmp_path: Path) -> None:
    make, cause = REFUSED[name]

    with pytest.raises(ExportError, match=cause):
        packaged(make(), tmp_path)


def test_more_terms_than_a_row_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(term_counts, "_MOST_TERMS", 5)

    with pytest.raises(InvalidSource, match="max_features or a larger min_df"):
        estimators.as_source(fitted())


def test_stored_columns_are_probes_of_their_own(tmp_path: Path) -> None:
    table = frame(6).fill_null(float("nan"))
    table = table.with_columns(polars.Series("review", ["ÉTÉ oil", "", "xyzzy", *REVIEWS[:3]]))
    np.savez(tmp_path / "samples.npz", **stored(table))
    source = estimators.as_source(fitted())

    case = next(one for one in cases.plan(source, tmp_path / "samples.npz") if one.kind == "samples")

    np.testing.assert_allclose(case.expected["probabilities"], fitted().predict_proba(table), rtol=1e-6)
    for format_name in ("onnx", "pickle"):
        package = packaged(fitted(), tmp_path, format_name, sample_inputs=tmp_path / "samples.npz")
        assert read(package, "fidelity.json")["probes"]["samples"]["rows"] == 6


def stored(table: polars.DataFrame) -> dict[str, Any]:
    dtypes = {"review": str, "stars": float, "shop": str, "weight": float}
    return {name: table[name].to_numpy().astype(dtype) for name, dtype in dtypes.items()}


@pytest.mark.parametrize(
    ("changed", "cause"),
    [
        ({"review": None}, "'review' is missing"),
        ({"town": np.array(["Nice"] * 6)}, "'town' is unknown"),
        ({"stars": np.array(["4"] * 6)}, "'stars' takes numbers"),
        ({"stars": np.zeros(5)}, "one value for each row"),
        ({"stars": np.zeros((6, 1))}, "one value for each row"),
        ({"review": np.array(["a text"] * 6, object)}, r"astype\(str\)"),
    ],
)
def test_wrong_stored_columns_are_refused_with_the_cause(changed: Any, cause: str, tmp_path: Path) -> None:
    arrays = stored(frame(6).fill_null(0.0)) | changed
    np.savez(tmp_path / "samples.npz", **{name: one for name, one in arrays.items() if one is not None})

    with pytest.raises(InvalidSource, match=cause):
        cases.plan(estimators.as_source(fitted()), tmp_path / "samples.npz")
