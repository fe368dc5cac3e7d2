"""``"optimize": "auto"``: its fields, and the ladder of recipes.

Importing this module imports no framework. ``search`` runs the recipes, ``choice`` decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import hardware
from .. import registry as formats
from ..datasets.schema import DatasetFile
from ..errors import UnsupportedOption
from ..options import Option, completed
from ..request import ExportRequest
from . import registry
from .base import ROLES, SECTIONS, Rung, Technique

AUTO = "auto"
GOAL: Mapping[str, Option] = {
    "max_accuracy_drop": Option(
        "number",
        0.01,
        "The largest accepted drop of the task's main metric on the validation dataset.",
        (0.0, 1.0),
    ),
    "minimize": Option("string", "latency", "What the recipe improves.", ("latency", "size", "memory")),
    "on": Option("string", None, "The hardware that the recipes are measured on: a running worker's label."),
}


def is_auto(optimization: Mapping[str, Any] | None) -> bool:
    """Return whether a complete configuration is one of ``auto``."""
    return (optimization or {}).get("optimize") == AUTO


def hardware_of(optimization: Mapping[str, Any] | None) -> str | None:
    """Return the label of the hardware that a complete configuration demands; None: any."""
    label: str | None = ((optimization or {}).get("goal") or {}).get("on")
    return label


def check_request(request: ExportRequest) -> None:
    """Check what a complete configuration needs of its request and of this machine.

    Raises:
        UnsupportedOption: there is no validation dataset, recipes would read its rows, or the goal names
            other hardware.
    """
    wanted, here = hardware_of(request.optimization), hardware.label()
    if wanted not in (None, here):
        raise UnsupportedOption(
            f"goal.on is {wanted!r}, but this machine is {here!r}.", allowed=[here], option="on"
        )
    if request.validation is None:
        raise UnsupportedOption(
            "optimize judges the recipes on a validation dataset: add validation.", None, option="validation"
        )
    judged = request.validation.dataset
    for role in ROLES:
        given = (request.optimization or {}).get(role)
        if given is not None:
            other = DatasetFile.from_json(given, role)
            same = judged.checksum is not None and judged.checksum == other.checksum
            if same or judged.path == other.path:
                raise UnsupportedOption(
                    f"The {role} dataset is the validation dataset: rows that judge a recipe must not be "
                    "used to make it. Give another dataset.",
                    None,
                    option=role,
                )


def ladder(format_name: str) -> list[tuple[Technique, Rung]]:
    """Return the recipes of a format in the order in which they are tried."""
    found = [
        (technique, rung)
        for methods in registry.techniques().values()
        for technique in methods.values()
        if technique.why_not(format_name) is None
        for rung in technique.rungs(format_name)
    ]
    return sorted(found, key=lambda pair: pair[1].position)


def complete(format_name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration with its defaults.

    Raises:
        UnsupportedOption: a wrong field or value, or a format whose recipes cannot be measured here.
    """
    ids = {f"{role}_dataset_id": Option("string", None, "A stored dataset.") for role in ROLES}
    others = sorted(name for name in given if name in SECTIONS)
    if others:
        raise UnsupportedOption(
            f"optimize chooses the techniques by itself: remove {' and '.join(others)}, or optimize.",
            allowed=[None],
            option=others[0],
        )
    if given.get("optimize") != AUTO:
        raise UnsupportedOption('optimize must be "auto".', allowed=[AUTO], option="optimize")
    goal = given.get("goal") or {}
    if not isinstance(goal, dict):
        raise UnsupportedOption(
            f"optimization_config.goal must be an object with {', '.join(GOAL)}.",
            allowed=list(GOAL),
            option="goal",
        )
    specification = formats.specification(format_name)
    possible = [one.name for one in formats.specifications() if one.runs_on is None and ladder(one.name)]
    if format_name not in possible:
        why = (
            f"only {specification.runs_on} can run {format_name}, so that no recipe could be measured"
            if specification.runs_on is not None
            else f"{format_name} has no recipe"
        )
        raise UnsupportedOption(
            f"optimize cannot be auto: {why}. Use one of {', '.join(possible)}.",
            allowed=possible,
            option="optimize",
        )
    fields = {name: value for name, value in given.items() if name not in ("optimize", "goal")}
    return {
        "optimize": AUTO,
        "goal": completed("optimization_config.goal", GOAL, goal),
        **completed("optimization_config with optimize", ids, fields),
    }


def configuration(technique: Technique, rung: Rung, auto: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of one recipe, without defaults. ``auto``: a complete configuration."""
    ids = {name: auto[name] for role in technique.reads if auto.get(name := f"{role}_dataset_id")}
    return {technique.section: {"method": technique.method, **rung.fields, **ids}}
