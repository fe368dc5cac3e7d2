"""A model that was fitted on a data frame with a column of texts beside numbers and categories."""

from typing import Any

import polars
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

REVIEWS = [
    "good oil for the engine, and it came in time",
    "the tyres were bad; never again!",
    "café naïve été, l'hôtel n'est pas loin",
    "Straße und STRASSE, İstanbul",
    "a bad engine in a good car",
    "日本語 の 文章 42 times 3.14",
]
SHOPS = ["Lyon", "Nice", "Paris"]


def frame(rows: int = 48) -> polars.DataFrame:
    return polars.DataFrame(
        {
            "review": [REVIEWS[row % len(REVIEWS)] for row in range(rows)],
            "stars": [float(row % 5) for row in range(rows)],
            "shop": [SHOPS[row * 7 % 3] for row in range(rows)],
            "title": [f"{('fine', 'poor')[row % 2]} no. {row % 4}" for row in range(rows)],
            "weight": [None if row % 9 == 0 else row % 7 / 2 for row in range(rows)],
        }
    )


def kinds(rows: int = 48) -> list[str]:
    return [("bad", "fine", "good")[(row % 6 + row % 5) % 3] for row in range(rows)]


def fitted() -> Any:
    """``title`` is not read; ``weight`` may be missing, and ``shop`` unknown."""
    columns = ColumnTransformer(
        [
            ("text", TfidfVectorizer(strip_accents="unicode"), "review"),
            ("num", StandardScaler(), ["stars"]),
            ("rest", make_pipeline(SimpleImputer(), StandardScaler()), ["weight"]),
            ("cat", OneHotEncoder(handle_unknown="ignore"), ["shop"]),
        ]
    )
    return make_pipeline(columns, LogisticRegression()).fit(frame(), kinds())
