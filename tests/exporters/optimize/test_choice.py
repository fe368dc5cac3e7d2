"""The choice among measured recipes: a pure function of the table."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from exporters.optimize.base import Rung
from exporters.optimize.choice import Measured, Row, decide, not_reached, report, why_skipped

FLOAT = Measured({"metric": "accuracy", "drop": 0.0, "allowed_drop": 0.01}, 1000, 1.0, 2.0, 1.0, 100)


def row(
    name: str, *, drop: float = 0.0, size: int = 1000, latency: float = 1.0, memory: int | None = 100
) -> Row:
    judgement = {"metric": "accuracy", "drop": drop, "allowed_drop": 0.01}
    return Row(name, {}, Measured(judgement, size, 3 * latency, 6 * latency, 3.0, memory))


def failed(name: str) -> Row:
    return Row(name, {}, outcome="failed", reason="It crashed.")


def goal(minimize: str = "size") -> dict[str, Any]:
    return {"max_accuracy_drop": 0.01, "minimize": minimize, "on": None}


@pytest.mark.parametrize(
    ("rows", "wanted", "chosen", "reason"),
    [
        ([row("a", size=500)], goal(), "a", "it has 0.5 times the size of float"),
        ([row("a", size=900)], goal(), None, "it has 0.9 times the size of float; below 0.9 times would win"),
        ([row("a", size=899)], goal(), "a", "it has 0.899 times the size of float"),
        ([row("a", size=500, drop=0.01)], goal(), "a", "it has 0.5 times the size of float"),
        ([row("a", size=500, drop=0.02)], goal(), None, "accuracy drops by 0.02, and 0.01 is allowed"),
        ([row("a", size=500, drop=-0.5)], goal(), "a", "it has 0.5 times the size of float"),
        ([row("a", size=500, drop=math.nan)], goal(), None, "accuracy drops by nan, and 0.01 is allowed"),
        ([row("a", latency=0.5)], goal("latency"), "a", "it has 0.5 times the latency of float"),
        ([row("a", latency=1.5, size=1)], goal("latency"), None, "it has 1.5 times the latency of float"),
        ([row("a", memory=50)], goal("memory"), "a", "it has 0.5 times the memory of float"),
        ([row("a", memory=None)], goal("memory"), None, "its memory could not be measured"),
        ([failed("a")], goal(), None, "It crashed."),
        ([], goal(), None, ""),
    ],
)  # fmt: skip
def test_one_recipe(rows: list[Row], wanted: Mapping[str, Any], chosen: str | None, reason: str) -> None:
    decided, found = decide([Row("float", {}, FLOAT), *rows], wanted)
    assert (found and found.recipe) == chosen
    assert decided[0].outcome == "baseline"
    assert [(one.outcome == "chosen") for one in decided[1:]] == [chosen is not None] * len(rows)
    assert all((one.reason or "").startswith(reason) for one in decided[1:])


@pytest.mark.parametrize(
    ("sizes", "chosen"),
    [
        ((500, 460), "0"),  # less than 10 % smaller: the first one stays
        ((500, 440), "1"),
        ((500, 460, 430), "2"),  # compared with the best one, not with the one before
        ((500, 455, 451), "0"),
        ((1000, 100, 500), "1"),
    ],
)
def test_a_later_recipe_wins_only_by_more_than_a_tenth(sizes: tuple[int, ...], chosen: str) -> None:
    rows = [Row("float", {}, FLOAT), *(row(str(number), size=size) for number, size in enumerate(sizes))]
    decided, found = decide(rows, goal())
    assert found is not None
    assert found.recipe == chosen
    assert [one.recipe for one in decided if one.outcome == "chosen"] == [chosen]
    assert all(one.reason for one in decided[1:])
    noisy = [replace(one, measured=one.measured) for one in rows]
    assert decide(noisy, goal()) == (decided, found)


def test_the_one_that_was_best_says_what_replaced_it() -> None:
    decided, _ = decide([Row("float", {}, FLOAT), row("a", size=500), row("b", size=250)], goal())
    assert [(one.outcome, one.reason) for one in decided[1:]] == [
        ("dropped", "b has 0.5 times the size of a"),
        ("chosen", "it has 0.25 times the size of float"),
    ]


def test_a_recipe_that_only_repairs_the_accuracy_is_not_tried_without_need() -> None:
    rung = Rung("static, entropy", 31, {}, unless=("static",))
    assert why_skipped(rung, [row("static", drop=0.5)]) is None
    assert why_skipped(rung, [failed("static")]) is None
    assert why_skipped(rung, [row("dynamic")]) is None
    assert "static keeps the accuracy" in str(why_skipped(rung, [row("static")]))


def test_the_table_and_the_message_have_every_recipe() -> None:
    decided, chosen = decide([Row("float", {}, FLOAT), row("a", drop=0.5), failed("b")], goal())
    found = report(decided, goal(), chosen)
    assert [(one["recipe"], one["outcome"]) for one in found["table"]] == [
        ("float", "baseline"),
        ("a", "dropped"),
        ("b", "failed"),
    ]
    assert found["chosen"] is None
    assert found["table"][1]["drop"] == 0.5
    assert "size_bytes" not in found["table"][2]
    message = not_reached(decided, goal())
    assert "a: accuracy drops by 0.5, and 0.01 is allowed; b: It crashed." in message
