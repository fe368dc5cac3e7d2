"""``POST /v1/infer/{deployment_id}``: decoding of requests and encoding of responses.

A body is decoded once, before the model is known, because it names the model of a multi-model deployment.

    decoded = platform.decode(body, content_type)
    request = decoded.request(member, accept)       # member: of decoded.model
    …
    answer = platform.answer(request, outputs, …)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from exporters.processing.declared import CLASSIFIER_CHOICES, DETECTOR_CHOICES
from model_service.errors import InvalidField, UnsupportedOption
from model_service.serving.protocols import JSON, LIMIT_BYTES, Answer, encodings, forms, items, npz, tensors

if TYPE_CHECKING:
    from exporters.base import Arrays
    from exporters.processing.image import Geometry
    from model_service.serving.protocols import Model

_TABLES = ("records", "dataframe_records", "dataframe_split", "csv", "parquet")
_CONTENTS = ("inputs", "image", "images", "text", "texts", *_TABLES)
_CHOICES = {**DETECTOR_CHOICES, **CLASSIFIER_CHOICES}
_FIELDS = frozenset((*_CONTENTS, *_CHOICES, "model"))
_CSV = "text/csv"
_PARQUET = ("application/vnd.apache.parquet", "application/x-parquet")
_ZIPS = (npz.NPZ, "application/zip")
# Files in a form with these names are images; any other name is that of an input.
_IMAGES = ("image", "images", "image[]", "images[]", "file", "files")


@dataclass(slots=True)
class Request:
    """``answers``: the media type of the response. ``geometries``: those of the images.

    ``overrides``: for ``pipeline.predictions``. ``shows_outputs``: tensors were sent, so tensors are
    returned.
    """

    inputs: Arrays
    geometries: list[Geometry] | None
    overrides: dict[str, Any]
    model: str | None
    answers: str
    shows_outputs: bool


@dataclass(slots=True)
class Decoded:
    """A decoded body; ``fields`` have the names of JSON.

    ``slow``: the request has images or texts, whose preparation would block an event loop.
    """

    fields: Mapping[str, Any]
    limit_bytes: int

    @property
    def model(self) -> str | None:
        """Return the name of the requested model, if there is one.

        Raises:
            InvalidField: it is no name.
        """
        name = self.fields.get("model")
        if name is not None and not isinstance(name, str):
            raise tensors.invalid("model", "must be the name of a model of this deployment")
        return name

    @property
    def slow(self) -> bool:
        return "inputs" not in self.fields or _are_texts(self.fields["inputs"])

    def request(self, model: Model, accept: str = "") -> Request:
        """Return the request for this model; ``accept`` is the Accept header.

        Raises:
            InvalidField: a field is missing, unknown, or not accepted by the model.
            UnsupportedOption: the response cannot have that type.
        """
        fields = self.fields
        answers = JSON if accept in ("", "*/*", JSON) else _answers(accept, model)
        kind = self._kind()
        overrides = {} if len(fields) == 1 else _overrides(fields, model)
        if kind == "inputs" and model.pipeline.takes == "texts" and _are_texts(fields["inputs"]):
            inputs = items.texts(kind, _several(kind, fields["inputs"]), model, self.limit_bytes)
            return Request(inputs, None, overrides, self.model, answers, True)
        if kind == "inputs":
            inputs = _tensors(fields["inputs"], model)
            return Request(inputs, None, overrides, self.model, answers, True)
        given = fields[kind]
        if kind in _TABLES:
            inputs = items.table(kind, given, model, self.limit_bytes)
            return Request(inputs, None, overrides, self.model, answers, True)
        geometries = None
        if kind in ("image", "images"):
            found = [
                one if isinstance(one, bytes) else items.decoded(kind, one) for one in _several(kind, given)
            ]
            inputs, geometries = items.images(kind, found, model, self.limit_bytes)
        else:
            inputs = items.texts(kind, _several(kind, given), model, self.limit_bytes)
        return Request(inputs, geometries, overrides, self.model, answers, False)

    def _kind(self) -> str:
        if len(self.fields) == 1 and "inputs" in self.fields:
            return "inputs"
        given = [name for name in _CONTENTS if name in self.fields]
        if len(given) != 1:
            what = "missing: send" if not given else f"{' and '.join(given)} were sent: send only one of"
            raise tensors.invalid(
                given[0] if given else "inputs",
                f"{what} 'inputs' as {{name: values}}, an 'image', a 'text' or 'records'",
            )
        return given[0]


def decode(
    body: bytes,
    content_type: str = "",
    query: Mapping[str, str] | None = None,
    *,
    content_encoding: str | None = None,
    limit_bytes: int = LIMIT_BYTES,
) -> Decoded:
    """Decode a body of any accepted type. Any other type is read as JSON.

    Args:
        query: of the URL: ``model`` and thresholds, for bodies that have no place for them.
        limit_bytes: of the body, and of the data decoded from it.

    Raises:
        InvalidJSON: the body does not fit its Content-Type.
        InvalidField: it has a field that does not exist.
        UnsupportedOption, FileTooLarge, InvalidRequest: as ``encodings.unpack`` and ``forms.read``.
    """
    if content_encoding:
        body = encodings.unpack(body, content_encoding, limit_bytes)
    kind = content_type
    if kind not in (JSON, ""):
        kind = kind.partition(";")[0].strip().lower()
    if kind == "application/octet-stream":
        kind = _sniffed(body)
    fields: Mapping[str, Any]
    if kind == npz.NPY:
        fields = {"inputs": npz.read_npy(body)}
    elif kind in _ZIPS:
        fields = {"inputs": npz.read_npz(body, limit_bytes)}
    elif kind == forms.MULTIPART:
        fields = _form(forms.read(body, content_type))
    elif kind == _CSV:
        fields = {"csv": body}
    elif kind in _PARQUET:
        fields = {"parquet": body}
    elif kind.startswith("image/"):
        fields = {"image": body}
    else:
        fields = tensors.load(body)
    if query:
        fields = {**fields, **_written(query)}
    if not fields.keys() <= _FIELDS:
        unknown = sorted(fields.keys() - _FIELDS)[0]
        raise tensors.invalid(unknown[:100], f"unknown; the fields are {tensors.quoted(sorted(_FIELDS))}")
    return Decoded(fields, limit_bytes)


def answer(
    request: Request,
    outputs: Arrays,
    *,
    deployment_id: str,
    model_version: str,
    member: str,
    latency_ms: float,
    predictions: Sequence[Any] | None,
    accept_encoding: str | None = None,
) -> Answer:
    """Encode as JSON, or as tensors only in ``.npz`` or ``.npy`` with the rest in headers."""
    if request.answers == JSON:
        content: dict[str, Any] = {
            "deployment_id": deployment_id,
            "model_version": model_version,
            "member": member,
            "latency_ms": round(latency_ms, 3),
        }
        if request.shows_outputs or predictions is None:
            content["outputs"] = outputs
        content["predictions"] = predictions
        return encodings.packed(Answer(JSON, [], tensors.dump(content)), accept_encoding)
    headers = result_headers(deployment_id, model_version, member, latency_ms)
    if request.answers == npz.NPY:
        (only,) = outputs.values()
        body = npz.write_npy(only)
    else:
        body = npz.write_npz(outputs)
    return encodings.packed(Answer(request.answers, headers, body), accept_encoding)


def result_headers(
    deployment_id: str, model_version: str, member: str, latency_ms: float
) -> list[tuple[str, str]]:
    """Return the headers with deployment, model and latency, for responses without JSON."""
    return [
        ("x-deployment-id", deployment_id),
        ("x-model-version", model_version),
        ("x-member", member),
        ("x-latency-ms", f"{latency_ms:.3f}"),
    ]


def _tensors(given: Any, model: Model) -> Arrays:
    """Decode tensors. For a model that accepts missing values, null is NaN."""
    try:
        return tensors.named(model.inputs, given)
    except InvalidField:
        missing = model.pipeline.missing
        if not missing:
            raise
    if isinstance(given, dict):
        given = {
            name: tensors.without_nulls(value) if name in missing else value for name, value in given.items()
        }
    else:
        given = tensors.without_nulls(given)
    return tensors.named(model.inputs, given)


def _sniffed(body: bytes) -> str:
    if body.startswith(npz.NPY_MAGIC):
        return npz.NPY
    return npz.NPZ if body.startswith(npz.ZIP_MAGIC) else "image/*"


def _form(parts: Sequence[forms.Part]) -> dict[str, Any]:
    """Read a form: files are images, or .npy files of inputs by name; other fields are those of JSON."""
    images: list[bytes] = []
    texts: list[str] = []
    inputs: dict[str, Any] = {}
    written: dict[str, str] = {}
    for part in parts:
        if part.content.startswith(npz.NPY_MAGIC):
            if part.name in inputs:
                raise tensors.invalid(f"inputs.{part.name[:100]}", "sent twice")
            inputs[part.name] = npz.read_npy(part.content)
        elif part.name in _IMAGES:
            images.append(part.content)
        elif part.filename is not None:
            raise tensors.invalid(
                part.name[:100], "is neither a .npy file of an input nor a file with the name 'image'"
            )
        elif part.name in ("text", "texts"):
            texts.append(_text(part))
        elif part.name in written:
            raise tensors.invalid(part.name[:100], "sent twice")
        else:
            written[part.name] = _text(part)
    fields: dict[str, Any] = _written(written)
    fields |= {"inputs": inputs} if inputs else {}
    fields |= {"images": images} if images else {}
    fields |= {"texts": texts} if texts else {}
    return fields


def _text(part: forms.Part) -> str:
    try:
        return part.content.decode()
    except UnicodeDecodeError:
        raise tensors.invalid(part.name[:100], "is not UTF-8 text") from None


def _written(given: Mapping[str, str]) -> dict[str, Any]:
    """Convert text fields to numbers if numbers are expected.

    An invalid one stays a text, and is refused later.
    """
    return {name: _number(text) if name in _CHOICES else text for name, text in given.items()}


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text[:40])
        except ValueError:
            continue
    return text


def _are_texts(given: Any) -> bool:
    return isinstance(given, list) and bool(given) and isinstance(given[0], str)


def _several(kind: str, given: Any) -> list[Any]:
    """Return the items of ``images``, ``texts``, ``inputs`` of texts, ``image`` or ``text``."""
    if kind in ("image", "text"):
        given = [given]
    if not isinstance(given, list) or not given:
        raise tensors.invalid(kind, "must be a list with at least one item")
    if kind in ("text", "texts", "inputs"):
        wrong = next((place for place, one in enumerate(given) if not isinstance(one, str)), None)
        if wrong is not None:
            raise tensors.invalid(f"{kind}.{wrong}", "must be a text")
    return given


def _overrides(fields: Mapping[str, Any], model: Model) -> dict[str, Any]:
    """Return the thresholds of this request. Null means the default."""
    found = {name: fields[name] for name in _CHOICES if fields.get(name) is not None}
    if not found:
        return found
    declared = model.pipeline.postprocessing
    allowed = {} if declared is None else DETECTOR_CHOICES if "nms" in declared else CLASSIFIER_CHOICES
    for name, value in found.items():
        if name not in allowed:
            there = (
                f"only {tensors.quoted(allowed)}"
                if allowed
                else "none, because it declares no postprocessing"
            )
            raise tensors.invalid(name, f"not for this model, which takes {there}")
        if not allowed[name].accepts(value):
            raise tensors.invalid(name, f"must be {allowed[name].allowed}")
    return found


def _answers(accept: str, model: Model) -> str:
    """Return the first known type of the Accept header; JSON if there is none."""
    for one in accept.split(","):
        kind = one.partition(";")[0].strip().lower()
        if kind in (JSON, "*/*", "application/*"):
            return JSON
        if kind == npz.NPZ:
            return npz.NPZ
        if kind == npz.NPY:
            if len(model.outputs) == 1:
                return npz.NPY
            raise UnsupportedOption(
                f"The model has {len(model.outputs)} outputs, but a .npy file holds one: accept {npz.NPZ}.",
                allowed=[JSON, npz.NPZ],
                option="Accept",
            )
    return JSON
