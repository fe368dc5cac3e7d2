"""Formatting of a prediction for the terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

from model_service.cli.common.tables import Listing
from model_service.client import Prediction

# Only the first ones are shown; --json has all of them.
_ROWS = 20
_VALUES = 5


def heading(answer: Prediction) -> str:
    latency = None if answer.latency_ms is None else f"{answer.latency_ms:.2f} ms"
    count = len(_columns(answer)[0][1])
    rest = f"the first {_ROWS} of {count} rows; --json prints all" if count > _ROWS else None
    version = answer.model_version and f"model {answer.model_version}"
    return ", ".join(filter(None, (version, latency, rest)))


def table(answer: Prediction) -> Listing:
    """Format a line for each row, or for a detector, for each box."""
    boxes = [(number, one) for number, row in enumerate(answer.predictions or ()) for one in _found(row)]
    if boxes:
        lines = [
            (number, one.get("class"), _number(one.get("confidence")), ", ".join(map(_number, one["bbox"])))
            for number, one in boxes[:_ROWS]
        ]
        return Listing(("row", "class", "confidence", "box"), lines)
    columns = _columns(answer)
    rows = zip(range(_ROWS), *(rows[:_ROWS] for _, rows in columns), strict=False)
    return Listing(("row", *(name for name, _ in columns)), rows)


def _found(row: Any) -> list[Mapping[str, Any]]:
    """Return the boxes of a detector; none for other models."""
    if not isinstance(row, list):
        return []
    return [one for one in row if isinstance(one, Mapping) and isinstance(one.get("bbox"), list)]


def _columns(answer: Prediction) -> list[tuple[str, list[str]]]:
    """Format the classes if the service returned them, otherwise each output with its shape."""
    if answer.predictions is not None:
        return [("prediction", [_classes(row) for row in answer.predictions])]
    return [
        (f"{name} [{', '.join(map(str, _shape(value)))}]", [_values(row) for row in _rows(value)])
        for name, value in answer.outputs.items()
    ] or [("output", [])]


def _classes(row: Any) -> str:
    """Format ``7  98.1 %, 1  1.2 %``; scores that are no probabilities stay numbers."""
    if not isinstance(row, list) or not all(isinstance(one, Mapping) and "class" in one for one in row):
        return str(row)
    scores = [one.get("confidence") for one in row]
    percent = all(isinstance(score, float | int) and 0 <= score <= 1 for score in scores)
    return ", ".join(
        f"{one['class']}  {score:.1%}".replace("%", " %") if percent else f"{one['class']}  {_number(score)}"
        for one, score in zip(row, scores, strict=True)
    )


def _values(row: Any) -> str:
    flat = _flat(row)
    shown = [_number(value) for _, value in zip(range(_VALUES), flat, strict=False)]
    return ", ".join(shown) + (", …" if next(flat, None) is not None else "")


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _rows(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for part in value:
            yield from _flat(part)
    else:
        yield value


def _shape(value: Any) -> Iterator[int]:
    while isinstance(value, list):
        yield len(value)
        value = value[0] if value else None
