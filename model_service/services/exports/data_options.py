"""The parts of an export request that use datasets: ``validation_config`` and ``optimization_config``."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import cast

from exporters import metrics as known_metrics
from exporters import optimize, registry
from exporters.errors import UnsupportedOption as ExporterRefusal
from model_service.errors import InvalidField, MalformedId, NotFound, UnsupportedOption
from model_service.sentences import as_field
from model_service.services.datasets.data_files import DataFile, DataFiles, Needs, checked_metrics
from model_service.storage.common.documents import JobDataset, JSONObject

VALIDATION = "validation"
_VALIDATION = "validation_config"
_MOST = 2**31
_FIELDS: JSONObject = {
    "enabled": True,
    "dataset_id": None,
    "metrics": None,
    "fail_threshold": None,
    "samples": None,
    "seed": 0,
}


@dataclass(frozen=True)
class OnData:
    """The checked configurations, as the job stores them, and the datasets that they name."""

    validation: JSONObject | None = None
    optimization: JSONObject | None = None
    datasets: list[JobDataset] = field(default_factory=list)


def checked_on_data(
    export_format: str,
    options: JSONObject,
    optimization: JSONObject | None,
    validation: JSONObject | None,
    data_files: DataFiles,
    needs: Needs,
    hardware: Callable[[], Collection[str]],
) -> OnData:
    """Check both configurations of an export request and the datasets that they name.

    Args:
        hardware: returns the labels of the running workers' hardware.

    Raises:
        UnsupportedOption, InvalidField, Conflict: as ``checked_validation`` and ``checked_optimization``.
    """
    complete, named = checked_optimization(optimization, export_format, options, data_files, needs)
    config, validated = checked_validation(validation, export_format, data_files, needs)
    if validated is not None and not optimize.is_auto(complete):
        _check_unseen(validated, named)
    if optimize.is_auto(complete):
        _check_judged(validated, named)
        check_hardware(complete, hardware)
    files = [*([] if validated is None else [validated]), *named]
    return OnData(config, complete, [data.dataset for data in files])


def checked_optimization(
    config: JSONObject | None,
    export_format: str,
    options: JSONObject,
    data_files: DataFiles,
    needs: Needs,
) -> tuple[JSONObject | None, list[DataFile]]:
    """Return the complete configuration, and the datasets for calibration and training that it names.

    Raises:
        UnsupportedOption: the format has no such technique or field.
        InvalidField: a dataset cannot be used.
        Conflict: a dataset's file is not inspected yet.
    """
    for name in optimize.FILES:
        if name in (config or {}):
            raise UnsupportedOption(
                f"optimization_config has no {name!r}: a section names a stored {name} by its id.",
                allowed=list(optimize.SECTIONS),
                field=f"optimization_config.{name}",
            )
    try:
        complete: JSONObject = optimize.check(export_format, config, options)
    except ExporterRefusal as refusal:
        raise UnsupportedOption(as_field(refusal.message), **refusal.details) from None
    named = []
    for role, (name, reference) in optimize.datasets_of(complete).items():
        data = _named(data_files, reference, role, name, needs)
        if role == optimize.TRAINING:
            _check_trainable(data, complete, name)
        named.append(data)
    return complete or None, named


def _check_trainable(data: DataFile, complete: JSONObject, name: str) -> None:
    """Raises InvalidField: a network cannot be trained on the dataset."""
    dataset = f"dataset {data.dataset['name']}/{data.dataset['version']}"
    if data.task is not None and data.task not in optimize.TRAINED_TASKS:
        tasks = ", ".join(optimize.TRAINED_TASKS)
        raise InvalidField.of(name, f"{dataset} is for {data.task}: a network is trained for {tasks}")
    if not data.has_labels and optimize.needs_labels(complete, data.task):
        raise InvalidField.of(name, f"{dataset} has no labels, which the training needs")


def checked_validation(
    config: JSONObject | None, export_format: str, data_files: DataFiles, needs: Needs
) -> tuple[JSONObject | None, DataFile | None]:
    """Return the complete configuration and the dataset; None and None without a validation.

    Raises:
        UnsupportedOption: an unknown key; ``details.allowed`` lists those that exist.
        InvalidField: a wrong value, no dataset, or a dataset, metric or threshold that does not fit.
        Conflict: the dataset's file is not inspected yet.
    """
    if not is_wanted(config):
        return config or None, None
    assert config is not None  # it is wanted
    for name in config:
        if name not in _FIELDS:
            raise UnsupportedOption(
                f"{_VALIDATION} has no {name[:40]!r}: use {', '.join(_FIELDS)}.",
                allowed=list(_FIELDS),
                field=f"{_VALIDATION}.{name}"[:60],
            )
    complete: JSONObject = {**_FIELDS, **config, "enabled": True}
    for name, least in (("samples", 1), ("seed", 0)):
        value = complete[name]
        whole = isinstance(value, int) and not isinstance(value, bool) and least <= value < _MOST
        if not whole and not (value is None and name == "samples"):
            raise InvalidField.of(f"{_VALIDATION}.{name}", f"an integer from {least} to {_MOST - 1}")
    data = _named(data_files, complete["dataset_id"], VALIDATION, f"{_VALIDATION}.dataset_id", needs)
    names = complete["metrics"]
    if names is not None and not (isinstance(names, list) and names and all(map(_is_text, names))):
        raise InvalidField.of(f"{_VALIDATION}.metrics", "a list of metrics")
    metrics = checked_metrics(cast("list[str] | None", names), data.task, f"{_VALIDATION}.metrics")
    complete["fail_threshold"] = _checked_threshold(
        complete["fail_threshold"], metrics, data.task, export_format
    )
    return {**complete, "metrics": None if metrics is None else [*metrics]}, data


def _check_judged(validated: DataFile | None, named: Iterable[DataFile]) -> None:
    """Raises InvalidField: there is no validation dataset, or recipes would read its rows."""
    field = f"{_VALIDATION}.dataset_id"
    if validated is None:
        raise InvalidField.of(field, 'needs a dataset, on which "optimize": "auto" judges the recipes')
    for data in named:
        if data.dataset["checksum"] == validated.dataset["checksum"]:
            role = data.dataset["role"]
            raise InvalidField.of(
                f"optimization_config.{role}_dataset_id",
                "is the validation dataset: rows that judge a recipe must not be used to make it",
            )


def _check_unseen(validated: DataFile, named: Iterable[DataFile]) -> None:
    """Raises InvalidField: the network would be trained on the rows of the validation."""
    for data in named:
        same = data.dataset["checksum"] == validated.dataset["checksum"]
        if same and data.dataset["role"] == optimize.TRAINING:
            raise InvalidField.of(
                f"{_VALIDATION}.dataset_id",
                "has the rows that the network is trained on, so it would prove nothing: use another dataset",
            )


def check_hardware(complete: JSONObject | None, hardware: Callable[[], Collection[str]]) -> None:
    """Raises InvalidField: no running worker has the hardware that a complete optimization_config demands."""
    label = optimize.hardware_of(complete)
    if label is None:
        return
    known = hardware()
    if label not in known:
        running = ", ".join(map(repr, sorted(known))) or "none is running"
        raise InvalidField.of(
            "optimization_config.goal.on", f"no running worker has this hardware; the workers have: {running}"
        )


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _checked_threshold(
    given: object, metrics: list[str] | None, task: str | None, export_format: str
) -> JSONObject | None:
    option = f"{_VALIDATION}.fail_threshold"
    if not given:
        return None
    runs_on = registry.specification(export_format).runs_on
    if runs_on is not None:
        raise InvalidField.of(
            option,
            f"only {runs_on} can run {export_format}, so the workers cannot compare it: leave it out",
        )
    names = metrics or (known_metrics.names_of(task) if task else None)
    try:
        known_metrics.check_thresholds(given, names, option)
    except ExporterRefusal as refusal:
        raise InvalidField.of(option, as_field(refusal.message).rstrip(".")) from None
    assert isinstance(given, dict)  # check_thresholds has checked it
    return given


def _named(data_files: DataFiles, reference: object, role: str, name: str, needs: Needs) -> DataFile:
    """Return the dataset that a field names. One that is missing is a wrong field, not a missing resource."""
    if not isinstance(reference, str) or not reference:
        raise InvalidField.of(name, "the id of a dataset, or NAME/VERSION")
    try:
        return data_files.get(reference, role, name, needs)
    except (NotFound, MalformedId) as missing:
        raise InvalidField.of(name, missing.message.rstrip(".")) from None


def is_wanted(config: JSONObject | None) -> bool:
    """Return whether validation is requested; ``{"enabled": false}`` disables it."""
    return bool(config and config.get("enabled") is not False)
