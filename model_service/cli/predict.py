"""``model-service predict``."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from model_service.cli.output import Json, client_of, emit
from model_service.cli.tables import Listing
from model_service.client import Prediction, Unauthorized
from model_service.client.inputs import NPY_MAGIC

# A person reads the first of them; --json has all.
_ROWS = 20
_VALUES = 5


def predict(
    context: typer.Context,
    deployment: Annotated[str, typer.Argument(metavar="DEPLOYMENT", help="An id or an endpoint URL.")],
    inputs: Annotated[
        str, typer.Argument(metavar="INPUT", help="A .npy file, a JSON file, or - for standard input.")
    ],
    key: Annotated[
        str | None,
        typer.Option(metavar="KEY", envvar="MODEL_SERVICE_DEPLOYMENT_KEY", help="The deployment's key, pk_…"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Ask a deployment. JSON is a nested list, or an object of them by input name; the batch comes first."""
    content = _inputs(sys.stdin.buffer.read() if inputs == "-" else Path(inputs).read_bytes())
    client = client_of(context)
    endpoint = deployment if "://" in deployment else client.get_deployment(deployment)
    try:
        answer = client.predict(endpoint, content, api_key=key)
    except Unauthorized as exc:
        where = "--key or MODEL_SERVICE_DEPLOYMENT_KEY"
        exc.add_note(
            f"The key that {where} gives is not this deployment's: `deployments create` showed the right one."
            if key
            else f"Give the key that `deployments create` showed with {where}."
        )
        raise
    if as_json:
        sys.stdout.write(json.dumps(answer.raw) + "\n")  # a line for each answer, as programs like it
    else:
        emit(answer.raw, False, _heading(answer), _table(answer))


def _inputs(content: bytes) -> Any:
    """The bytes of a .npy file as they are, or JSON; ``{"inputs": …}``, the route's own body, works too."""
    if content.startswith(NPY_MAGIC):
        return content
    try:
        value = json.loads(content)
    except ValueError as exc:
        raise typer.BadParameter(f"neither a .npy file nor JSON: {exc}", param_hint="INPUT") from None
    return value["inputs"] if isinstance(value, dict) and value.keys() == {"inputs"} else value


def _heading(answer: Prediction) -> str:
    latency = None if answer.latency_ms is None else f"{answer.latency_ms:.2f} ms"
    count = len(_columns(answer)[0][1])
    rest = f"the first {_ROWS} of {count} rows, --json has all" if count > _ROWS else None
    version = answer.model_version and f"model {answer.model_version}"
    return ", ".join(filter(None, (version, latency, rest)))


def _table(answer: Prediction) -> Listing:
    columns = _columns(answer)
    rows = zip(range(_ROWS), *(rows[:_ROWS] for _, rows in columns), strict=False)
    return Listing(("row", *(name for name, _ in columns)), rows)


def _columns(answer: Prediction) -> list[tuple[str, list[str]]]:
    """The classes where the service names them, else each output with its shape; a text for each row."""
    if answer.predictions is not None:
        return [("prediction", [_classes(row) for row in answer.predictions])]
    return [
        (f"{name} [{', '.join(map(str, _shape(value)))}]", [_values(row) for row in _rows(value)])
        for name, value in answer.outputs.items()
    ] or [("output", [])]


def _classes(row: Any) -> str:
    """``7  98.1 %, 1  1.2 %``; scores that are no probabilities stay numbers."""
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
