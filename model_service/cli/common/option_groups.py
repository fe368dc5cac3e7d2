"""Options that several commands share, declared once: the fields of a dataclass.

    @app.command()
    @grouped
    def create(context: typer.Context, name: str, *, waiting: Waiting, as_json: Json = False) -> None: ...

has the options of ``Waiting`` in the place of that parameter.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import is_dataclass
from typing import Any


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    parameters = inspect.signature(command).parameters
    groups: dict[str, Any] = {
        name: each.annotation for name, each in parameters.items() if is_dataclass(each.annotation)
    }
    options = {name: inspect.signature(group).parameters for name, group in groups.items()}

    @functools.wraps(command)
    def called(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{option: given.pop(option) for option in options[name]})
        command(**given)

    shown = (
        option for name, each in parameters.items() for option in options.get(name, {name: each}).values()
    )
    # Typer calls by keyword, so a parameter with a default may precede one without.
    by_keyword = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in shown]
    called.__signature__ = inspect.Signature(by_keyword)  # type: ignore[attr-defined]
    return called
