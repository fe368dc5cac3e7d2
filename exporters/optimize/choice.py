"""The choice among the measured recipes of ``"optimize": "auto"``, and the table that shows it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .. import hardware
from .base import Rung

FLOAT = "float"
# A recipe wins only if its cost is below this share of that of the best one before it, so that the noise of
# two measurements does not decide.
_SHARE = 0.9

# The outcomes of recipes.
BASELINE = "baseline"
CHOSEN = "chosen"
DROPPED = "dropped"
FAILED = "failed"
NOT_TRIED = "not_tried"


@dataclass(frozen=True)
class Measured:
    """What was measured of a recipe's artefact.

    ``judgement``: of ``Judge.judge``. ``float_p50_ms``: the latency of the float artefact, measured in turns
    with this one. ``peak_memory_bytes`` None: it is not known.
    """

    judgement: Mapping[str, Any]
    size_bytes: int
    p50_ms: float
    p99_ms: float
    float_p50_ms: float
    peak_memory_bytes: int | None

    def cost(self, quantity: str) -> float:
        """Return the latency relative to the float artefact's, the size, or the memory; NaN: not known."""
        if quantity == "latency":
            return self.p50_ms / self.float_p50_ms
        return self.size_bytes if quantity == "size" else self.peak_memory_bytes or math.nan

    def to_json(self) -> dict[str, Any]:
        named = {"original": "original", "artefact": "value", "drop": "drop", "interval": "interval"}
        named |= {"metric": "metric", "samples": "samples", "certain": "certain"}
        return {
            **{name: self.judgement[key] for key, name in named.items() if key in self.judgement},
            "size_bytes": self.size_bytes,
            "p50_ms": self.p50_ms,
            "p99_ms": self.p99_ms,
            "float_p50_ms": self.float_p50_ms,
            "speedup": round(self.float_p50_ms / self.p50_ms, 3),
            "peak_memory_bytes": self.peak_memory_bytes,
        }


@dataclass(frozen=True)
class Row:
    """A recipe of the table. ``measured`` None: ``outcome`` is FAILED or NOT_TRIED, for the ``reason``."""

    recipe: str
    configuration: Mapping[str, Any]
    measured: Measured | None = None
    outcome: str = ""
    reason: str | None = None
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return {
            "recipe": self.recipe,
            "configuration": dict(self.configuration),
            "outcome": self.outcome,
            "reason": self.reason,
            **(self.measured.to_json() if self.measured else {}),
            "seconds": round(self.seconds, 2),
        }


def holds(row: Row) -> bool:
    """Return whether the artefact was measured and its drop is allowed."""
    judgement = row.measured.judgement if row.measured else None
    return judgement is not None and bool(judgement["drop"] <= judgement["allowed_drop"])


def why_skipped(rung: Rung, rows: Sequence[Row]) -> str | None:
    """Return why a recipe need not be tried after those of the rows; None if it must be."""
    better = next((row for row in rows if row.recipe in rung.unless and holds(row)), None)
    if better is None:
        return None
    return f"{better.recipe} keeps the accuracy, and this recipe is neither smaller nor faster"


def decide(rows: Sequence[Row], goal: Mapping[str, Any]) -> tuple[list[Row], Row | None]:
    """Return the rows with their outcomes, and the chosen one; None if none reaches the goal.

    The first row is the float artefact. A recipe reaches the goal if its drop is allowed and its cost is
    below 0.9 of the float artefact's. It replaces an earlier one only if its cost is below 0.9 of that one's.
    """
    quantity = goal["minimize"]
    best, decided = rows[0], [replace(rows[0], outcome=BASELINE)]
    assert best.measured is not None  # a float artefact that cannot be measured ends the export
    for row in rows[1:]:
        reason = row.reason if row.measured is None else _why_dropped(row, best, quantity)
        if reason is None:
            assert row.measured is not None
            if best is not rows[0]:
                decided = [
                    replace(one, outcome=DROPPED, reason=f"{row.recipe} has {_share(row, best, quantity)}")
                    if one.recipe == best.recipe
                    else one
                    for one in decided
                ]
            best = row
            row = replace(row, outcome=CHOSEN, reason=f"it has {_share(row, rows[0], quantity)}")
        elif row.measured is not None:
            row = replace(row, outcome=DROPPED, reason=reason)
        decided.append(row)
    return decided, next((row for row in decided if row.outcome == CHOSEN), None)


def _why_dropped(row: Row, best: Row, quantity: str) -> str | None:
    """Return why a measured recipe does not replace the best one before it; None if it does."""
    assert row.measured is not None
    assert best.measured is not None
    if not holds(row):
        judgement = row.measured.judgement
        return (
            f"{judgement['metric']} drops by {judgement['drop']:.4g}, and "
            f"{judgement['allowed_drop']:g} is allowed"
        )
    own, other = row.measured.cost(quantity), best.measured.cost(quantity)
    if math.isnan(own) or math.isnan(other):
        return f"its {quantity} could not be measured"
    if own < _SHARE * other:
        return None
    return f"it has {_share(row, best, quantity)}; below {_SHARE:g} times would win"


def _share(row: Row, other: Row, quantity: str) -> str:
    assert row.measured is not None
    assert other.measured is not None
    share = row.measured.cost(quantity) / other.measured.cost(quantity)
    return f"{share:.3g} times the {quantity} of {other.recipe}"


def report(rows: Sequence[Row], goal: Mapping[str, Any], chosen: Row | None) -> dict[str, Any]:
    """Return the table as JSON: optimization_table.json, and a part of ``optimization_stats``."""
    return {
        "goal": dict(goal),
        "hardware": hardware.label(),
        "chosen": chosen.recipe if chosen else None,
        "table": [row.to_json() for row in rows],
    }


def table_of(optimization: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of an export's report that ``report`` has added."""
    return {name: optimization[name] for name in ("goal", "hardware", "chosen", "table")}


def not_reached(rows: Sequence[Row], goal: Mapping[str, Any]) -> str:
    """Return the message for the owner of the model."""
    reasons = "; ".join(f"{row.recipe}: {(row.reason or '')[:160].rstrip('.')}" for row in rows[1:])
    return (
        f"No recipe reaches the goal, a {goal['minimize']} below {_SHARE:g} times the float artefact's "
        f"with a drop of at most {goal['max_accuracy_drop']:g}. {reasons}. Allow a larger drop, minimize "
        "something else, or export without optimize."
    )
