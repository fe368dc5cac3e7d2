"""The data that the suite of estimators fits on, by name, and rows that nothing was fitted on."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import polars
from sklearn import datasets

Array = npt.NDArray[Any]
Rows = Any  # an array of numbers, a data frame, a list of texts
Data = tuple[Rows, Any]  # rows and target

_ROWS = 60  # of a block
# One of them replaces one value of each row of a block.
_HOSTILE = (np.nan, 1e30, -1e30, 1e-40, -1e-40, 0.0, -0.0, 77.0, 0.5)
_TOPICS = (
    "the engine of the car needs oil and new tyres",
    "the patient takes two pills a day for the heart",
    "a goal in the last minute won the match for them",
)


@cache
def data(name: str) -> Data:
    """Everyday data of scikit-learn's own, and small made ones."""
    random = np.random.default_rng(1)
    wine, kinds = datasets.load_wine(return_X_y=True)
    cells, malignant = datasets.load_breast_cancer(return_X_y=True)
    patients, progress = datasets.load_diabetes(return_X_y=True)
    digits, digit = datasets.load_digits(return_X_y=True)
    scaled = (wine - wine.mean(axis=0)) / wine.std(axis=0)
    gaps = np.where(random.random(wine.shape) < 0.1, np.nan, wine)
    codes = np.column_stack(
        [random.integers(0, 5, 300), random.integers(0, 9, 300), random.normal(size=(300, 2))]
    )
    outcomes = (codes[:, 0] % 2 + (codes[:, 2] > 0)).astype(int)
    made: dict[str, Data] = {
        "wine": (wine, kinds),
        "wine, amounts": (wine, wine[:, 0] + kinds),
        "wine, names": (wine, np.array(["Barolo", "Grignolino", "Barbera"])[kinds]),
        "wine, few labels": (wine, np.where(np.arange(len(kinds)) % 3 == 0, -1, kinds)),
        "wine, scaled": (scaled, kinds),
        "wine, gaps": (gaps, kinds),
        "wine, two questions": (wine, np.column_stack([kinds > 0, wine[:, 0] > 13]).astype(int)),
        "wine, kernel": (scaled[:40] @ scaled[:40].T, kinds[:40]),
        "cancer": (cells, malignant),
        "diabetes": (patients, progress),
        "diabetes, two numbers": (patients, np.column_stack([progress, -(progress**0.5)])),
        "diabetes, one column": (patients[:, 2:3], progress),
        "digits": (digits[:400], digit[:400]),
        "digits, shares": (digits[:400] / 16, digit[:400]),
        "codes": (codes[:, :2], outcomes),
        "codes and numbers": (codes, outcomes),
        "codes, amounts": (codes, codes[:, 2] + codes[:, 0]),
        "texts": _texts(random),
        "records": ([{"age": float(row[0]), "size": float(row[1])} for row in codes], outcomes),
        "images": (digits[:40].reshape(40, 8, 8), digit[:40]),
        "frame": _frame(random),
    }
    return made[name]


def _texts(random: np.random.Generator) -> Data:
    words = [topic.split() for topic in _TOPICS]
    topics = random.integers(0, 3, 120)
    return [" ".join(random.choice(words[topic], 7)) for topic in topics], topics


def _frame(random: np.random.Generator) -> Data:
    city, size = random.choice(["Paris", "Lyon", "Nice"], 300), random.choice(["S", "M", "L"], 300)
    age, income = random.integers(18, 80, 300).astype(float), random.normal(30, 8, 300).round(2)
    income = np.where(random.random(300) < 0.1, np.nan, income.astype(np.float32))
    table = polars.DataFrame({"age": age, "city": city, "income": income, "size": size})
    return table, ((city == "Paris") & (size != "S") | (age > 60)).astype(int)


def held_out(rows: Rows) -> Iterator[Rows]:
    """Blocks of rows: near the known ones, ties, then one value that is missing, huge, tiny, zero or new."""
    random = np.random.default_rng(7)
    if isinstance(rows, polars.DataFrame):
        yield from _held_out_frames(rows, random)
    elif isinstance(rows, list):
        yield from _held_out_texts(rows, random)
    else:
        yield from _held_out_numbers(rows, random)


def _held_out_numbers(rows: Array, random: np.random.Generator) -> Iterator[Array]:
    near = rows[random.integers(0, len(rows), _ROWS)].astype(np.float32)
    yield near
    yield np.repeat(near[:5], 3, axis=0)
    low, high = np.nanmin(rows, axis=0), np.nanmax(rows, axis=0)
    yield random.uniform(low, high, (_ROWS, rows.shape[1])).astype(np.float32)
    for value in _HOSTILE:
        block = near.copy()
        block[np.arange(len(block)), random.integers(0, rows.shape[1], len(block))] = value
        yield block
    yield np.round(near)
    yield np.zeros_like(near[:3])
    yield np.where(random.random(near.shape) < 0.3, np.float32(np.nan), near)
    yield near * np.float32(10)


def _held_out_frames(rows: polars.DataFrame, random: np.random.Generator) -> Iterator[polars.DataFrame]:
    near = rows[random.integers(0, len(rows), _ROWS).tolist()]
    yield near
    yield polars.concat([near[:5]] * 3)
    every_third = polars.int_range(_ROWS) % 3 == 0
    for name, kind in rows.schema.items():
        for value in ("Oslo", "", None) if kind == polars.String else _HOSTILE:
            hostile = polars.lit(value, kind)
            yield near.with_columns(polars.when(every_third).then(hostile).otherwise(name).alias(name))


def _held_out_texts(texts: list[str], random: np.random.Generator) -> Iterator[list[str]]:
    yield [texts[place] for place in random.integers(0, len(texts), _ROWS).tolist()]
    words = sorted({word for text in texts for word in text.split()})
    yield [" ".join(random.choice(words, 5)) for _ in range(_ROWS)]
    yield ["", " ", "unknown words alone", "THE CAR", "the, car!", "oil oil oil oil", "naïve café", "42 x"]
