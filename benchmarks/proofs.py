"""How long the proof of a tabular model takes: its probes, the source's answers and the comparison.

``python benchmarks/proofs.py``. The conversion and the package are not part of it. Each model has about the
number of tree nodes that its row names.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from common import setting, table, write_results

from exporters import registry, runners, sources
from exporters.convert import run
from exporters.proof import cases, verify
from exporters.request import ExportRequest

PROMISED_S = 1.0
PROMISED_NODES = 10_000
ROUNDS = 5
ROWS, FEATURES = 20_000, 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    random = np.random.default_rng(0)
    features = random.normal(size=(ROWS, FEATURES))
    classes = (features[:, 0] * features[:, 1] + random.normal(size=ROWS) > 0).astype(int)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        estimators = {name: make().fit(features, classes) for name, make in MODELS.items()}
        for name, estimator in (
            {"columns of texts, numbers and categories": _columns()} | estimators
        ).items():
            row = _measured(name, estimator, Path(scratch) / name.replace(" ", "-"), given.rounds)
            print("  " + ", ".join(map(str, row)), flush=True)
            rows.append(row)
    write_results("proofs", report(rows))


def _measured(name: str, estimator: Any, folder: Path, rounds: int) -> list[object]:
    import joblib

    folder.mkdir()
    path = folder / "model.joblib"
    joblib.dump(estimator, path)
    result = run(ExportRequest(path, folder / "package", "onnx"))
    source = sources.load(path, registry.specification("onnx").validate({}))
    predict = runners.load(folder / "package").predict
    probing_s, comparing_s = [], []
    for _ in range(rounds):
        started = time.perf_counter()
        plan = cases.examine(source)
        planned = time.perf_counter()
        verify.compare(plan.cases, predict)
        probing_s.append(planned - started)
        comparing_s.append(time.perf_counter() - planned)
    total_s = statistics.median(one + other for one, other in zip(probing_s, comparing_s, strict=True))
    asked = sum(len(next(iter(case.inputs.values()))) for case in plan.cases)
    return [
        name,
        f"{_nodes(folder / 'package' / result.artefact):,}",
        f"{asked:,}",
        f"{statistics.median(probing_s):.2f}",
        f"{statistics.median(comparing_s):.2f}",
        f"{total_s:.2f}",
    ]


def _nodes(artefact: Path) -> int:
    import onnx

    graph = onnx.load(artefact).graph
    return sum(
        len(attribute.strings)
        for node in graph.node
        for attribute in node.attribute
        if attribute.name == "nodes_modes"
    )


def _forest(trees: int, leaves: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(trees, max_leaf_nodes=leaves, random_state=0)


def _tree() -> Any:
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier(max_leaf_nodes=5_000, random_state=0)


def _boosting() -> Any:
    from sklearn.ensemble import GradientBoostingClassifier

    return GradientBoostingClassifier(n_estimators=670, max_depth=3, subsample=0.2, random_state=0)


def _histograms(iterations: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(max_iter=iterations, early_stopping=False, random_state=0)


def _lightgbm() -> Any:
    from lightgbm import LGBMClassifier

    return LGBMClassifier(n_estimators=160, verbose=-1)


def _xgboost() -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from xgboost import XGBClassifier

    return make_pipeline(StandardScaler(), XGBClassifier(n_estimators=120, max_depth=6))


def _linear() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression())


def _columns() -> Any:
    """Fitted on a data frame of a text, a category, and two numbers of which one may be missing."""
    import polars
    from sklearn.compose import make_column_transformer
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    random = np.random.default_rng(0)
    words, shops = np.array([f"word{n}" for n in range(500)]), np.array(["Lyon", "Nice", "Paris"])
    rows = polars.DataFrame(
        {
            "review": [" ".join(random.choice(words, 12)) for _ in range(2_000)],
            "shop": random.choice(shops, 2_000),
            "stars": random.integers(1, 6, 2_000).astype(float),
            "weight": np.where(random.random(2_000) < 0.1, None, random.normal(size=2_000)).tolist(),
        }
    )
    columns = make_column_transformer(
        (TfidfVectorizer(), "review"),
        (OneHotEncoder(handle_unknown="ignore"), ["shop"]),
        (StandardScaler(), ["stars"]),
        (make_pipeline(SimpleImputer(), StandardScaler()), ["weight"]),
    )
    return make_pipeline(columns, LogisticRegression()).fit(rows, rows["stars"].to_numpy() > 3)


MODELS: Mapping[str, Callable[[], Any]] = {
    "scaler and LogisticRegression": _linear,
    "DecisionTreeClassifier": _tree,
    "RandomForestClassifier": lambda: _forest(50, 100),
    "GradientBoostingClassifier": _boosting,
    "HistGradientBoostingClassifier": lambda: _histograms(160),
    "LGBMClassifier": _lightgbm,
    "scaler and XGBClassifier": _xgboost,
    "RandomForestClassifier, large": lambda: _forest(200, 500),
    "HistGradientBoostingClassifier, large": lambda: _histograms(1_600),
}


def report(rows: list[list[object]]) -> str:
    header = ["model", "tree nodes", "rows asked", "probes and source, s", "comparison, s", "proof, s"]
    return (
        f"# The proof of tabular models\n\n`python benchmarks/proofs.py`. {setting()} {FEATURES} features, "
        f"fitted on {ROWS:,} rows, to ONNX; medians. Promised: at most {PROMISED_S:.0f} s up to "
        f"{PROMISED_NODES:,} nodes.\n\n"
        f"{table(header, rows)}"
    )


if __name__ == "__main__":
    main()
