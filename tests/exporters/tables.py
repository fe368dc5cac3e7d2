"""A model that was fitted on a data frame of numbers and strings."""

from pathlib import Path
from typing import Any

import joblib
import numpy as np
import polars
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler


def frame(rows: int = 200) -> polars.DataFrame:
    random = np.random.default_rng(0)
    return polars.DataFrame(
        {
            "age": random.integers(18, 80, rows),
            "city": random.choice(["Paris", "Lyon", "Nice"], rows),
            "income": [None if row % 9 == 0 else float(row % 37) for row in range(rows)],
            "size": random.choice(["S", "M", "L"], rows),
            "note": ["never read"] * rows,
        }
    ).with_columns(polars.col("income").fill_null(float("nan")))


def fitted(rows: int = 200) -> Any:
    """``city`` takes unknown categories, ``income`` missing values; ``age`` and ``size`` neither."""
    columns = ColumnTransformer(
        [
            ("age", StandardScaler(), ["age"]),
            ("income", make_pipeline(SimpleImputer(), StandardScaler()), ["income"]),
            ("city", OneHotEncoder(handle_unknown="ignore"), ["city"]),
            ("size", OrdinalEncoder(categories=[["S", "M", "L"]]), ["size"]),
        ]
    )
    table = frame(rows)
    wanted = ((table["city"] == "Paris") & (table["size"] != "S")).to_numpy() | (table["age"] > 60).to_numpy()
    return make_pipeline(columns, LogisticRegression(max_iter=1000)).fit(table, wanted.astype(int))


def save(path: Path) -> Path:
    joblib.dump(fitted(), path)
    return path
