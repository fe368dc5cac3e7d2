"""The validation of ``optimization_config``, before a job starts and without a framework."""

from collections.abc import Collection, Mapping
from typing import Any

from .. import registry as formats
from ..errors import UnsupportedOption
from ..options import completed
from . import auto, registry
from .base import CALIBRATION as CALIBRATION
from .base import ROLES, SECTIONS, Rung, Technique
from .base import TRAINING as TRAINING

_FULL_INTEGER = "full_integer"


def _id_of(role: str) -> str:
    return f"{role}_dataset_id"


def check(
    format_name: str, config: Mapping[str, Any] | None, options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the complete configuration; empty if ``config`` asks for nothing.

    Args:
        options: the format's options, which must not contradict the configuration.

    Raises:
        UnsupportedOption: an unknown section, method or field; a technique that the format does not support,
            with the reason; no dataset where one is needed; a contradiction.
    """
    formats.specification(format_name)
    given = dict(config or {})
    data = {role: found for role in ROLES if (found := given.pop(role, None)) is not None}
    is_auto = given.get("optimize") is not None or given.get("goal") is not None
    known = (*SECTIONS, "optimize", "goal", *(_id_of(role) for role in ROLES if is_auto))
    given = {name: value for name, value in given.items() if value is not None or name not in known}
    for name in given:
        if name not in known:
            raise UnsupportedOption(
                f"optimization_config has no {name!r}; it has {', '.join(known)}.",
                allowed=list(known),
                option="optimization_config",
            )
    if is_auto:
        found = auto.complete(format_name, given) | data
        _check_any_recipe(format_name, found, options or {})
        return found
    complete: dict[str, Any] = {}
    for section in SECTIONS:
        if section in given:
            complete[section] = _section(format_name, section, given[section], data)
    _check_options(format_name, complete, options or {})
    return complete | data if complete else {}


def datasets_of(complete: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    """Return, by role, the field that names a dataset, and its reference."""
    found = {}
    for section in (None, *SECTIONS):
        fields = complete if section is None else complete.get(section) or {}
        path = ".".join(["optimization_config", *([section] if section else [])])
        for role in ROLES:
            if fields.get(_id_of(role)) is not None:
                found[role] = (f"{path}.{_id_of(role)}", fields[_id_of(role)])
    return found


def of_recipe(
    format_name: str,
    technique: Technique,
    rung: Rung,
    complete: Mapping[str, Any],
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the complete configuration of a recipe of the ladder.

    Raises:
        UnsupportedOption: the recipe needs a dataset that is not there, or contradicts the options.
    """
    data = {role: complete[role] for role in technique.reads if role in complete}
    return check(format_name, auto.configuration(technique, rung, complete) | data, options)


def _check_any_recipe(format_name: str, complete: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Raises UnsupportedOption if no recipe of the ladder can be tried."""
    refused = {}
    for technique, rung in auto.ladder(format_name):
        try:
            of_recipe(format_name, technique, rung, complete, options)
            return
        except UnsupportedOption as exc:
            refused[rung.name] = exc.message
    reasons = " ".join(f"{name}: {reason}" for name, reason in refused.items())
    raise UnsupportedOption(f"optimize has no recipe to try. {reasons}", allowed=[None], option="optimize")


def chosen(complete: Mapping[str, Any]) -> list[tuple[Technique, dict[str, Any]]]:
    """Return the techniques of a complete configuration with their fields, in the order of application."""
    known = registry.techniques()
    return [
        (known[section][complete[section]["method"]], complete[section])
        for section in SECTIONS
        if section in complete
    ]


def merged(format_name: str, complete: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the format's options with those that the configuration sets."""
    merged = dict(options)
    for technique, _ in chosen(complete):
        merged |= technique.options(format_name)
    return merged


def _section(format_name: str, section: str, given: Any, data: Collection[str]) -> dict[str, Any]:
    methods = registry.techniques()[section]
    if not isinstance(given, dict):
        raise UnsupportedOption(
            f"optimization_config.{section} must be an object with a method.",
            allowed=list(methods),
            option=section,
        )
    fields = dict(given)
    method = fields.pop("method", next(iter(methods)) if len(methods) == 1 else None)
    if method not in methods:
        raise UnsupportedOption(
            f"optimization_config.{section} needs a method, one of {', '.join(methods)}.",
            allowed=list(methods),
            option="method",
        )
    technique = methods[method]
    reason = technique.why_not(format_name)
    if reason is not None:
        possible = [name for name, one in methods.items() if one.why_not(format_name) is None]
        raise UnsupportedOption(reason, allowed=possible, option="method")
    complete = {"method": method, **completed(f"{method} {section}", technique.fields, fields)}
    for role in technique.reads:
        if role not in data and not complete[_id_of(role)]:
            raise UnsupportedOption(
                f"{method} {section} needs {role} data: give {_id_of(role)}, a stored dataset.",
                allowed=None,
                option=_id_of(role),
            )
    technique.check(format_name, complete)
    return complete


def _check_options(format_name: str, complete: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    known = formats.specification(format_name).options
    for technique, _ in chosen(complete):
        sets = {name: (known[name].default, value) for name, value in technique.options(format_name).items()}
        for name, values in {**sets, **technique.combines(format_name)}.items():
            if options.get(name, known[name].default) not in values:
                raise UnsupportedOption(
                    f"{technique.method} {technique.section} cannot be combined with "
                    f"{name}={options.get(name, known[name].default)}. Use one of "
                    f"{', '.join(str(value) for value in values if value is not None)}, or remove "
                    f"{technique.section}.",
                    allowed=list(values),
                    option=name,
                )
    method = complete.get("quantization", {}).get("method")
    integer = format_name == "tflite" and options.get("quantization") == _FULL_INTEGER
    if integer and method not in ("static", "qat"):
        raise UnsupportedOption(
            "full_integer needs calibration data: add optimization_config with quantization.method static "
            "and its calibration_dataset_id; dynamic needs none.",
            allowed=["none", "dynamic"],
            option="quantization",
        )
