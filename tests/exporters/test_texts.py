"""Estimators that take texts: counted by the package as scikit-learn counts, and verified on texts."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import pytest
import skops.io
import xgboost
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier, VotingClassifier
from sklearn.feature_extraction import DictVectorizer, FeatureHasher
from sklearn.feature_extraction.text import (
    CountVectorizer,
    HashingVectorizer,
    TfidfTransformer,
    TfidfVectorizer,
)
from sklearn.feature_selection import SelectKBest, chi2
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import BernoulliNB, ComplementNB, MultinomialNB
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import LinearSVC

from exporters import runners
from exporters.convert import run
from exporters.datasets import DatasetFile
from exporters.errors import ExportError, InvalidDataset, InvalidSource, UnsafeCheckpoint
from exporters.processing.pipeline import Pipeline
from exporters.processing.vectorizer import MAX_CHARACTERS, Vectorizer, is_quick
from exporters.proof import cases, data
from exporters.request import ExportRequest
from exporters.sources import estimators, native_state, term_counts, texts
from exporters.sources.hostile_texts import HOSTILE
from tests.exporters.reproducible import contents

TEXTS = [
    "The engine of the car needs oil, and new tyres!",
    "Der Motor läuft; das Öl ist naß. STRASSE und Straße",
    "a goal in the last minute won the match for them",
    "café naïve été, l'hôtel n'est pas loin",
    "日本語 の 文章 42 times 3.14",
    "the match was lost in the first minute",
    "İstanbul and ISPARTA, ΣΊΣΥΦΟΣ",
    "oil oil oil and a new engine for the match",
] * 4
KINDS = [0, 1, 2, 1, 3, 2, 3, 0] * 4
LOGISTIC = LogisticRegression()


def packaged(estimator: Any, folder: Path, format_name: str = "onnx", **request: Any) -> Path:
    joblib.dump(estimator, folder / "model.joblib")
    run(ExportRequest(folder / "model.joblib", folder / format_name, format_name, **request))
    return folder / format_name


def answers(package: Path, given: list[str]) -> dict[str, Any]:
    pipeline = Pipeline(json.loads((package / "metadata.json").read_bytes()), package)
    assert pipeline.takes == "texts"
    return dict(runners.load(package).predict(pipeline.prepare(given)[0]))


ASKED = [*HOSTILE, *TEXTS, "unknown words alone", "OIL", "oil-engine", "the the the"]
VECTORIZERS: dict[str, Callable[[], Any]] = {
    "words": TfidfVectorizer,
    "counts": CountVectorizer,
    "words in turn": lambda: TfidfVectorizer(ngram_range=(1, 3), sublinear_tf=True),
    "pairs, without stop words": lambda: CountVectorizer(ngram_range=(2, 2), stop_words="english"),
    "own stop words": lambda: CountVectorizer(stop_words=["the", "oil"]),
    "one letter": lambda: CountVectorizer(token_pattern=r"(?u)\b\w+\b"),
    "until a space": lambda: CountVectorizer(token_pattern=r"\S+", lowercase=False),
    "characters": lambda: TfidfVectorizer(analyzer="char", ngram_range=(1, 3), norm="l1"),
    "within words": lambda: TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), use_idf=False),
    "long within words": lambda: CountVectorizer(analyzer="char_wb", ngram_range=(6, 7)),
    "unicode accents": lambda: CountVectorizer(strip_accents="unicode", binary=True),
    "ascii accents": lambda: TfidfVectorizer(strip_accents="ascii", norm=None),
    "few": lambda: TfidfVectorizer(max_features=5, min_df=2, smooth_idf=False),
    "a list of words": lambda: CountVectorizer(vocabulary=["match", "oil", "straße", "i̇stanbul"]),
}


@pytest.mark.parametrize("make", VECTORIZERS.values(), ids=VECTORIZERS)
def test_the_package_counts_as_scikit_learn(make: Callable[[], Any], tmp_path: Path) -> None:
    vectorizer = make().fit(TEXTS)

    package = packaged(vectorizer, tmp_path)

    found = answers(package, ASKED)["variable"]
    np.testing.assert_allclose(found, vectorizer.transform(ASKED).toarray(), rtol=1e-5, atol=1e-6)
    if type(vectorizer) is CountVectorizer:
        np.testing.assert_array_equal(found, vectorizer.transform(ASKED).toarray())
        assert found.any()


PIPELINES: dict[str, Any] = {
    "logistic": make_pipeline(TfidfVectorizer(), LOGISTIC),
    "naive Bayes": make_pipeline(CountVectorizer(), MultinomialNB()),
    "complement": make_pipeline(TfidfVectorizer(), ComplementNB()),
    "Bernoulli": make_pipeline(CountVectorizer(binary=True), BernoulliNB()),
    "machine": make_pipeline(TfidfVectorizer(sublinear_tf=True), LinearSVC()),
    "descent": make_pipeline(CountVectorizer(), TfidfTransformer(), SGDClassifier(random_state=0)),
    "components": make_pipeline(TfidfVectorizer(), TruncatedSVD(4, random_state=0), LOGISTIC),
    "best": make_pipeline(TfidfVectorizer(), SelectKBest(chi2, k=9), MultinomialNB()),
    "scaled": make_pipeline(TfidfVectorizer(), StandardScaler(with_mean=False), LOGISTIC),
    "forest": make_pipeline(TfidfVectorizer(), RandomForestClassifier(20, random_state=0)),
    "forest of counts": make_pipeline(CountVectorizer(), RandomForestClassifier(20, random_state=0)),
    "boosting": make_pipeline(TfidfVectorizer(), GradientBoostingClassifier(n_estimators=5, random_state=0)),
    "XGBoost, whose zeros are missing": make_pipeline(
        TfidfVectorizer(), SelectKBest(chi2, k=20), xgboost.XGBClassifier(n_estimators=5)
    ),
    "LightGBM": make_pipeline(
        TfidfVectorizer(), lightgbm.LGBMClassifier(n_estimators=5, min_child_samples=2, verbose=-1)
    ),
    "number": make_pipeline(TfidfVectorizer(), Ridge()),
    "union": make_pipeline(
        make_union(TfidfVectorizer(), TfidfVectorizer(analyzer="char", ngram_range=(2, 3))), LOGISTIC
    ),
    "search": GridSearchCV(make_pipeline(TfidfVectorizer(), LOGISTIC), {"logisticregression__C": [1]}, cv=2),
    "calibrated": CalibratedClassifierCV(make_pipeline(TfidfVectorizer(), LinearSVC()), cv=2),
    "vote": VotingClassifier(
        [
            ("a", make_pipeline(TfidfVectorizer(), LOGISTIC)),
            ("b", make_pipeline(CountVectorizer(), MultinomialNB())),
        ],
        voting="soft",
    ),
}


@pytest.mark.parametrize(
    ("name", "format_name"),
    [*((name, "onnx") for name in PIPELINES), ("logistic", "pickle"), ("union", "pickle")],
)
def test_a_pipeline_of_texts_is_verified_and_right(name: str, format_name: str, tmp_path: Path) -> None:
    model = PIPELINES[name].fit(TEXTS, KINDS)

    package = packaged(model, tmp_path, format_name)

    found = answers(package, ASKED)
    if hasattr(model, "predict_proba"):
        np.testing.assert_allclose(found["probabilities"], model.predict_proba(ASKED), rtol=1e-3, atol=1e-5)
    elif hasattr(model, "decision_function"):
        np.testing.assert_allclose(found["scores"], model.decision_function(ASKED), rtol=1e-3, atol=1e-5)
    else:
        np.testing.assert_allclose(found["variable"][:, 0], model.predict(ASKED), rtol=1e-3, atol=1e-5)
    fidelity = json.loads((package / "fidelity.json").read_bytes())
    assert fidelity["verdict"] == "verified"
    assert fidelity["probes"]["text"]["rows"] > len(HOSTILE)
    assert fidelity["coverage"]["terms"] == fidelity["coverage"]["terms_reached"] > 9


def test_the_wrapper_counts_and_replays_texts(tmp_path: Path) -> None:
    model = make_pipeline(TfidfVectorizer(strip_accents="unicode"), LOGISTIC).fit(TEXTS, KINDS)
    package = packaged(model, tmp_path)
    script = [sys.executable, package / "runtimes/python/model_wrapper.py"]

    asked = subprocess.run([*script, "oil for the CAFÉ"], capture_output=True, check=True, cwd="/")
    replayed = subprocess.run([*script, "--replay"], capture_output=True, check=True, cwd="/", text=True)

    found = json.loads(asked.stdout)["predictions"]["probabilities"]
    np.testing.assert_allclose(found, model.predict_proba(["oil for the CAFÉ"])[0], atol=1e-6)
    assert "replay: passed" in replayed.stdout
    document = json.loads((package / "vectorizer.json").read_bytes())
    document["parts"][0]["lowercase"] = False
    document["parts"][0]["terms"].reverse()
    (package / "vectorizer.json").write_text(json.dumps(document))
    wrong = subprocess.run([*script, "--replay"], capture_output=True, check=False, cwd="/", text=True)
    assert (wrong.returncode, "the counts of terms in input" in wrong.stderr) == (1, True)


def test_a_package_of_texts_is_reproducible(tmp_path: Path) -> None:
    model = make_pipeline(TfidfVectorizer(), LOGISTIC).fit(TEXTS, KINDS)
    joblib.dump(model, tmp_path / "model.joblib")
    for name in ("one", "two"):
        run(ExportRequest(tmp_path / "model.joblib", tmp_path / name, "onnx"))

    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_an_artefact_that_reads_another_column_is_not_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counting is part of the proof: with two columns exchanged no probe agrees."""
    exchanged = Vectorizer.counts
    monkeypatch.setattr(Vectorizer, "counts", lambda self, given: exchanged(self, given)[:, ::-1])
    joblib.dump(make_pipeline(TfidfVectorizer(), LOGISTIC).fit(TEXTS, KINDS), tmp_path / "model.joblib")

    with pytest.raises(InvalidSource, match=r"TfidfVectorizer counts the terms .* differently"):
        run(ExportRequest(tmp_path / "model.joblib", tmp_path / "out", "onnx"))


def exclaimed(text: str) -> str:
    return text + "!"


REFUSED: dict[str, tuple[Any, str]] = {
    "tokenizer": (CountVectorizer(tokenizer=str.split, token_pattern=None), "contains builtins.getattr"),
    "preprocessor": (CountVectorizer(preprocessor=exclaimed), "contains .*exclaimed"),
    "pattern": (CountVectorizer(token_pattern=r"(\w+\s?)+"), "token_pattern"),
    "long terms": (CountVectorizer(analyzer="char", ngram_range=(1, 30)), "ngram_range"),
    "small counts": (CountVectorizer(dtype=np.uint8), "differently.*dtype"),
    "hashes": (HashingVectorizer(n_features=16), "stores no terms.*TfidfVectorizer"),
    "features": (FeatureHasher(4), "inputs are dictionaries.*OneHotEncoder"),
    "records": (DictVectorizer(), "inputs are dictionaries.*OneHotEncoder"),
}


@pytest.mark.parametrize("suffix", ["joblib", "skops"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_counted_is_refused_with_the_cause(name: str, suffix: str, tmp_path: Path) -> None:
    model, cause = REFUSED[name]
    model.fit([{"word": 1.0}] if "dictionaries" in cause else TEXTS)
    path = tmp_path / f"model.{suffix}"
    (joblib if suffix == "joblib" else skops.io).dump(model, path)
    if suffix == "skops" and name in ("tokenizer", "preprocessor"):
        cause = "contains|calls a function"

    with pytest.raises(ExportError, match=re.compile(cause, re.DOTALL)):
        run(ExportRequest(path, tmp_path / "out", "onnx"))


def test_a_function_is_refused_where_every_pickle_is_trusted(tmp_path: Path) -> None:
    joblib.dump(CountVectorizer(preprocessor=exclaimed).fit(TEXTS), tmp_path / "model.joblib")

    with pytest.raises(InvalidSource, match="calls a custom function"):
        run(ExportRequest(tmp_path / "model.joblib", tmp_path / "out", "onnx", allow_unsafe=True))


def test_a_vectorizer_behind_another_step_is_refused() -> None:
    model = make_pipeline(FunctionTransformer(), CountVectorizer()).fit(TEXTS)
    estimators.as_source(model)  # a function that is none hands the texts on
    model.steps[0] = ("counts", CountVectorizer().fit(TEXTS))

    with pytest.raises(InvalidSource, match="the output of another step of the pipeline"):
        estimators.as_source(model)


def test_stored_texts_are_probes_of_their_own(tmp_path: Path) -> None:
    model = make_pipeline(TfidfVectorizer(), LOGISTIC).fit(TEXTS, KINDS)
    given = ["oil and OIL", "", "xyzzy", "İstanbul"]
    np.savez(tmp_path / "samples.npz", text=given)
    source = estimators.as_source(model)

    case = next(one for one in cases.plan(source, tmp_path / "samples.npz") if one.kind == "samples")

    np.testing.assert_allclose(case.expected["probabilities"], model.predict_proba(given), rtol=1e-6)
    for format_name in ("onnx", "pickle"):
        package = packaged(model, tmp_path, format_name, sample_inputs=tmp_path / "samples.npz")
        assert json.loads((package / "fidelity.json").read_bytes())["probes"]["samples"]["rows"] == 4


@pytest.mark.parametrize(
    ("arrays", "cause"),
    [
        ({"text": [1.0, 2.0]}, "must be an array of texts"),
        ({"text": [["oil"]]}, "must be an array of texts"),
        ({"text": np.array([], str)}, "must be an array of texts"),
        ({"text": np.array(["oil"], object)}, r"astype\(str\)"),
        ({"words": ["oil"]}, "as one array of texts named 'text'"),
        ({"text": ["x" * (MAX_CHARACTERS + 1)]}, "1,000,001 characters"),
    ],
)
def test_wrong_stored_texts_are_refused_with_the_cause(arrays: Any, cause: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "samples.npz", **arrays)
    source = estimators.as_source(CountVectorizer().fit(TEXTS))

    with pytest.raises(InvalidSource, match=cause):
        cases.plan(source, tmp_path / "samples.npz")


def test_a_missing_text_of_a_dataset_is_refused(tmp_path: Path) -> None:
    package = packaged(CountVectorizer().fit(TEXTS), tmp_path, "onnx")
    path = tmp_path / "data.jsonl"
    rows = [{"text": text, "y": place % 2} for place, text in enumerate([*TEXTS, None])]
    path.write_text("\n".join(map(json.dumps, rows)))
    metadata = json.loads((package / "metadata.json").read_bytes())
    dataset, _ = data.for_package(DatasetFile(path, "jsonl"), package, metadata)
    assert sum(len(batch) for batch in dataset.batches(1, at_most=1)) == 1
    with pytest.raises(InvalidDataset, match="must be an array of texts"):
        list(dataset.batches(100))


def test_more_terms_than_a_row_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(term_counts, "_MOST_TERMS", 5)

    with pytest.raises(InvalidSource, match="max_features or a larger min_df"):
        estimators.as_source(CountVectorizer().fit(TEXTS))


def test_many_terms_share_the_texts_of_their_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(term_counts, "_MOST_CELLS", 500)
    source = estimators.as_source(CountVectorizer().fit(TEXTS))

    rows = {kind: len(arrays["input"]) for kind, arrays in source.probes()}

    assert 8 < rows["terms"] <= rows["typical"] < source.coverage["terms"]
    assert source.coverage["terms_reached"] == source.coverage["terms"]


@pytest.mark.parametrize(
    "pattern", [r"[a-z]+\b", r"\S+\b", r"\w[0-9]+\b", r"a{100,}", r"\w+\w+", r"(a+)+", r"\b[a-z]+\b\w+"]
)
def test_a_pattern_that_takes_more_time_than_the_text_is_long_is_refused(pattern: str) -> None:
    assert not is_quick(pattern)
    with pytest.raises(UnsafeCheckpoint, match="token_pattern"):
        native_state.check(CountVectorizer(token_pattern=pattern))
    with pytest.raises(ValueError, match="token_pattern"):
        Vectorizer(declared(token_pattern=pattern))


def declared(**changes: Any) -> dict[str, Any]:
    found = texts.of(CountVectorizer().fit(TEXTS))
    assert found is not None
    return {**found.terms.declared[0], **changes}


def test_a_text_has_a_longest_length() -> None:
    vectorizer = Vectorizer(declared())
    assert vectorizer.counts(["oil " * (MAX_CHARACTERS // 4)]).sum() == MAX_CHARACTERS // 4

    with pytest.raises(ValueError, match="1,000,001 characters, more than 1,000,000"):
        vectorizer.counts(["x" * (MAX_CHARACTERS + 1)])


def test_a_pipeline_that_ends_with_a_linear_machine_is_converted(tmp_path: Path) -> None:
    """skl2onnx gives the options of a pipeline to its last step, which may not have one of them."""
    rows = np.random.default_rng(0).normal(size=(60, 3))
    model = make_pipeline(StandardScaler(), LinearSVC()).fit(rows, rows[:, 0] > 0)
    rows = rows.astype(np.float32)

    found = runners.load(packaged(model, tmp_path)).predict({"input": rows})

    np.testing.assert_allclose(found["scores"][:, 1], model.decision_function(rows), rtol=1e-4, atol=1e-5)
