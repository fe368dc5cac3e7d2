"""The data file of a dataset version as the input of a job, and what is checked before the job exists."""

from collections.abc import Sequence
from dataclasses import dataclass

from exporters import metrics as known_metrics
from exporters.datasets import schema as dataset_schema
from exporters.errors import UnsupportedOption as ExporterRefusal
from model_service.errors import Conflict, InvalidField
from model_service.sentences import as_field
from model_service.services.models.origins import Origins
from model_service.states import InspectionStatus
from model_service.storage.common.documents import JobDataset
from model_service.storage.datasets.documents import Dataset, InspectedTensor, Summary, data_file
from model_service.storage.exports.documents import Interface

# The dtypes whose shapes are compared. Images and texts are converted first.
_NUMBERS = ("bool", "int", "uint", "float")


@dataclass(frozen=True)
class Needs:
    """What is known of a model before a job reads it.

    ``inputs`` is None if they are not known. ``preprocessed``: a declared preprocessing makes the inputs from
    other arrays.
    """

    task_type: str | None
    inputs: Sequence[Interface] | None = None
    preprocessed: bool = False


@dataclass(frozen=True)
class DataFile:
    """A checked dataset; ``task`` is None if neither the dataset nor the model names it.

    ``has_labels``: whether its rows have a label.
    """

    dataset: JobDataset
    task: str | None
    has_labels: bool


class DataFiles:
    def __init__(self, origins: Origins) -> None:
        self._origins = origins

    def get(self, reference: str, role: str, field: str, needs: Needs) -> DataFile:
        """Return the dataset's data file for a job.

        Args:
            field: of the request, for errors.

        Raises:
            MalformedId, InvalidRequest, NotFound: there is no such dataset.
            InvalidField: it has no data file that can be loaded, or does not fit the model.
            Conflict: the service has not inspected the file yet.
        """
        dataset = self._origins.dataset(reference)
        summary = _inspected(dataset, field)
        label = summary.get("label")
        task = dataset_schema.task_of(
            dataset["schema"],
            dataset["task_type"],
            needs.task_type,
            label_kind=label["dtype"] if label else None,
        )
        if needs.inputs is not None and not needs.preprocessed:
            _check_fit(dataset, summary, needs.inputs, field)
        return DataFile(data_file(dataset, role), task, label is not None)


def checked_metrics(names: Sequence[str] | None, task: str | None, field: str) -> list[str] | None:
    """Return the metrics by their own names; None: all of the task.

    Raises:
        InvalidField: an unknown metric, or one that does not fit the task.
    """
    if names is None:
        return None
    try:
        return known_metrics.check(names, task)
    except ExporterRefusal as refusal:
        raise InvalidField.of(field, as_field(refusal.message).rstrip(".")) from None


def _inspected(dataset: Dataset, field: str) -> Summary:
    """Return the dataset's summary. Raises: InvalidField, Conflict: its data file cannot be used (yet)."""
    name = f"dataset {dataset['name']}/{dataset['version']}"
    try:
        dataset_schema.check_format(dataset["format"])
        dataset_schema.check(dataset["schema"])
    except ExporterRefusal as refusal:
        raise InvalidField.of(field, f"{name}: {refusal.message.rstrip('.')}") from None
    if dataset["file_metadata"] is None:
        raise InvalidField.of(field, f"{name} has no file yet: upload one first")
    summary = dataset.get("summary")
    if summary is None or summary["status"] == InspectionStatus.PENDING:
        raise Conflict(
            f"A worker has not inspected the file of {name} yet: try again when the status of its summary "
            "is 'ready'.",
            dataset_id=str(dataset["_id"]),
            status=InspectionStatus.PENDING,
        )
    if summary["status"] == InspectionStatus.FAILED:
        reason = (summary.get("error") or "its file cannot be read").rstrip(".")
        raise InvalidField.of(field, f"{name}: {reason}")
    return summary


def _check_fit(dataset: Dataset, summary: Summary, inputs: Sequence[Interface], field: str) -> None:
    """Compare the arrays of the same name, without the axis of the rows. The converter compares the rest.

    Raises:
        InvalidField: an array has another shape than the model's input.
    """
    for wanted in inputs:
        array = _array_for(wanted["name"], len(inputs) == 1, dataset, summary)
        if array is None or not array["dtype"].startswith(_NUMBERS):
            continue
        if "shape" not in wanted:
            continue
        needed, given = wanted["shape"][1:], array["shape"][1:]
        fits = len(needed) == len(given) and all(
            not isinstance(need, int) or not isinstance(have, int) or need == have
            for need, have in zip(needed, given, strict=True)
        )
        if not fits and (given or len(needed) != 1):  # one number a row also fits [rows, n] of a table
            raise InvalidField.of(
                field,
                f"{array['name']!r} of dataset {dataset['name']}/{dataset['version']} has the shape "
                f"{_shape(given)} after the axis of the rows, but the model's input {wanted['name']!r} takes "
                f"{_shape(needed)}",
            )


def _array_for(name: str, only: bool, dataset: Dataset, summary: Summary) -> InspectedTensor | None:
    """Return the array that becomes this input; None if several columns do, or if it is not known.

    Args:
        only: whether the model has no other input.
    """
    arrays = {array["name"]: array for array in summary.get("inputs") or []}
    declared = dataset["schema"].get("inputs")
    chosen = declared.get(name) if isinstance(declared, dict) else None
    if chosen is not None:
        return arrays.get(chosen) if isinstance(chosen, str) else None
    if declared:
        return None
    names = (name, *(dataset_schema.INPUT_NAMES if only else ()))
    return next((arrays[each] for each in names if each in arrays), None)


def _shape(axes: Sequence[int | str]) -> str:
    return f"[{', '.join(map(str, axes))}]"
