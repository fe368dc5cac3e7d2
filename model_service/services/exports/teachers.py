"""The teacher of a distillation: another model version, which the job holds like its source."""

from collections.abc import Sequence
from typing import cast

from model_service.errors import InvalidField, InvalidRequest, NotFound
from model_service.services.datasets.data_files import DataFiles, Needs
from model_service.services.exports.requests import source_of
from model_service.services.files.held import HeldFiles
from model_service.storage.common.documents import JobTeacher, JSONObject
from model_service.storage.exports.documents import Interface
from model_service.storage.exports.exports import Exports
from model_service.storage.models.documents import Model

_SECTION = "optimization_config.distillation"
_FIELD = f"{_SECTION}.teacher_model_id"


class Teachers:
    def __init__(self, files: HeldFiles[Model], exports: Exports, data_files: DataFiles) -> None:
        self._files = files
        self._exports = exports
        self._data_files = data_files

    def of(self, optimization: JSONObject | None, student: Model, *, preprocessed: bool) -> JobTeacher | None:
        """Return the teacher of a complete ``optimization_config``; None without a distillation.

        Args:
            student: the model that is exported.
            preprocessed: as ``Needs``; the teacher gets the same rows.

        Raises:
            InvalidField: the teacher does not exist, is not readable, has no file, is the student itself, or
                does not fit the dataset or the student, as far as earlier exports say what it returns.
        """
        fields = cast(JSONObject | None, (optimization or {}).get("distillation"))
        if fields is None:
            return None
        teacher = self._found(fields["teacher_model_id"])
        if teacher["_id"] == student["_id"]:
            raise InvalidField.of(_FIELD, "is the exported version itself: name another version")
        source = source_of(teacher)
        config = cast(JSONObject, fields["teacher_config"])
        inputs = cast("list[Interface] | None", config.get("inputs"))
        if inputs is None:
            inputs = self._exports.inputs_of(teacher["_id"], source["checksum"])
        elif not all("name" in one for one in inputs):
            inputs = None  # the network's own names
        needs = Needs(teacher["task_type"], inputs, preprocessed)
        self._data_files.get(str(fields["training_dataset_id"]), "training", _FIELD, needs)
        _check_outputs(
            self._exports.outputs_of(teacher["_id"], source["checksum"]),
            self._exports.outputs_of(student["_id"], source_of(student)["checksum"]),
        )
        return {
            **source,
            "model_id": teacher["_id"],
            "name": teacher["name"],
            "version": teacher["version"],
        }

    def _found(self, reference: object) -> Model:
        try:
            return self._files.get_with_file(str(reference))
        except (NotFound, InvalidRequest) as missing:
            raise InvalidField.of(_FIELD, missing.message.rstrip(".")) from None


def _check_outputs(teacher: Sequence[Interface] | None, student: Sequence[Interface] | None) -> None:
    """Raises InvalidField: the first outputs of numbers have other shapes. None: not known."""
    shapes = [_first_shape(outputs or ()) for outputs in (teacher, student)]
    if None not in shapes and shapes[0] != shapes[1]:
        returned, needed = (f"[rows, {', '.join(map(str, shape or ()))}]" for shape in shapes)
        raise InvalidField.of(
            _FIELD, f"the teacher returns {returned}, and the exported model {needed}: choose another teacher"
        )


def _first_shape(outputs: Sequence[Interface]) -> list[int] | None:
    """Return the shape of a row of the first output of floating-point numbers; None: not known."""
    shapes = [one.get("shape") for one in outputs if one.get("dtype", "").startswith("float")]
    sizes = (shapes[0] or [])[1:] if shapes else []
    known = [size for size in sizes if isinstance(size, int)]
    return known if known and len(known) == len(sizes) else None
