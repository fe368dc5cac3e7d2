"""The validation of ``optimization_config``, before a job starts and without a framework."""

from collections.abc import Collection, Mapping
from typing import Any

from .. import registry as formats
from ..datasets.schema import RECONSTRUCTION
from ..errors import UnsupportedOption
from ..options import completed
from . import auto, registry
from .base import CALIBRATION as CALIBRATION
from .base import ROLES, SECTIONS, Rung, Technique
from .base import TEACHER as TEACHER
from .base import TRAINING as TRAINING

# Beside the sections: datasets, and the teacher: ``path``, and name, version and checksum for the report.
FILES = (*ROLES, TEACHER)
# What a technique reads → its name, the field of the section, and the field's value.
_READ = {
    CALIBRATION: ("calibration data", "calibration_dataset_id", "a stored dataset"),
    TRAINING: ("training data", "training_dataset_id", "a stored dataset"),
    TEACHER: ("a teacher", "teacher_model_id", "a stored model version"),
}
_FULL_INTEGER = "full_integer"


def _id_of(what: str) -> str:
    return _READ[what][1]


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
    data = {role: found for role in FILES if (found := given.pop(role, None)) is not None}
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
    _check_training_data(complete)
    if "distillation" in complete and complete.get("quantization", {}).get("method") == "qat":
        raise UnsupportedOption(
            "A distillation cannot be followed by qat: the artefact would be judged by the student before "
            "both trainings. Use static quantization.",
            allowed=["static", "dynamic"],
            option="method",
        )
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


def needs_labels(complete: Mapping[str, Any], task: str | None) -> bool:
    """Return whether a training of the configuration needs the labels of its dataset."""
    parts = [complete, *(complete.get(section) or {} for section in SECTIONS)]
    trained = [fields for fields in parts if fields.get(_id_of(TRAINING)) is not None]
    return task != RECONSTRUCTION and any(learns_labels(fields) for fields in trained)


def learns_labels(fields: Mapping[str, Any]) -> bool:
    """Return whether a section that trains needs labels: a teacher with the whole weight does not."""
    return bool(fields.get("alpha") != 1)


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


def recipe(complete: Mapping[str, Any]) -> dict[str, Any]:
    """Return a complete configuration without its goal and the descriptions of files."""
    return {name: value for name, value in complete.items() if name not in (*FILES, "goal")}


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
    known = dict(technique.fields)
    for what, names in technique.optional.items():
        if not _is_used(what, names, fields, data):
            known = {name: field for name, field in known.items() if name not in names}
    complete = {"method": method, **completed(f"{method} {section}", known, fields)}
    for what in technique.reads:
        if what not in data and not complete[_id_of(what)]:
            raise _missing(f"{method} {section}", what)
    technique.check(format_name, complete)
    return complete


def _is_used(what: str, names: Collection[str], fields: dict[str, Any], data: Collection[str]) -> bool:
    """Return whether a section uses what is optional. Removes its fields that are null.

    Raises:
        UnsupportedOption: a field that needs it, without it.
    """
    for name in names:
        if fields.get(name, ...) is None:
            del fields[name]
    given = [name for name in names if name in fields]
    if given and what not in data and _id_of(what) not in fields:
        raise _missing(given[0], what)
    return bool(given)


def _missing(needing: str, what: str) -> UnsupportedOption:
    name, field, value = _READ[what]
    return UnsupportedOption(f"{needing} needs {name}: give {field}, {value}.", allowed=None, option=field)


def _check_training_data(complete: Mapping[str, Any]) -> None:
    """Raises UnsupportedOption: two sections train on different datasets."""
    named = {fields.get(_id_of(TRAINING)) for fields in complete.values()} - {None}
    if len(named) > 1:
        raise UnsupportedOption(
            "The sections of optimization_config have different values of training_dataset_id: an export "
            "trains on one dataset.",
            allowed=sorted(named),
            option="training_dataset_id",
        )


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
