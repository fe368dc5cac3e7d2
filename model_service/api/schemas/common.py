"""Types and base classes shared by the requests and responses of all resources."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import orjson
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import CoreSchema
from pydantic_core.core_schema import (
    no_info_after_validator_function,
    no_info_before_validator_function,
)

from model_service.sentences import pattern
from model_service.services.common.paging import Page

MAX_DEPTH = 32
MAX_OBJECT_BYTES = 128 * 1024


def check_object(value: dict[str, Any]) -> dict[str, Any]:
    """Check a free object of a body. ``request_body`` has already checked that it can be stored.

    Raises:
        ValueError: nested too deep, a key that MongoDB reads as a reference, or larger than MAX_OBJECT_BYTES.
    """
    _check_keys(value, MAX_DEPTH)
    if len(orjson.dumps(value)) > MAX_OBJECT_BYTES:
        raise ValueError(f"larger than {MAX_OBJECT_BYTES:,} bytes of JSON")
    return value


def _check_keys(value: Any, deepest: int) -> None:
    if deepest < 0:
        raise ValueError(f"nested more than {MAX_DEPTH} deep")
    if isinstance(value, dict):
        for key in value:
            if key.startswith("$"):  # MongoDB would read $ref as a reference
                raise ValueError(f"the key {key[:40]!r} starts with '$'")
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            _check_keys(inner, deepest - 1)


_NUMBER = re.compile(r"[-+]?[0-9.]+")


def _split(value: Any) -> Any:
    """Split ``tags=a, b`` and ``tags=a&tags=b`` in the same way; None if the text has no item."""
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        return value  # the validation of the type reports it
    return [part for text in value for one in text.split(",") if (part := one.strip())] or None


def _no_number(value: Any) -> Any:
    """Reject numbers, which pydantic would read as seconds or milliseconds depending on their size."""
    if isinstance(value, (int, float)) or (isinstance(value, str) and _NUMBER.fullmatch(value.strip())):
        raise ValueError("a time in RFC 3339, like 2026-11-29T12:00:00Z")
    return value


def _stored(moment: datetime) -> datetime:
    """Convert a time to UTC and milliseconds, the precision of the database."""
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("not a time of this calendar") from None
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


Moment = Annotated[AwareDatetime, BeforeValidator(_no_number), AfterValidator(_stored)]


class _NotNull:
    """A field that may be left out but may not be null, also in the OpenAPI document."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return without_null(handler(schema))

    @staticmethod
    def _check(value: Any) -> Any:
        if value is None:
            raise ValueError("leave it out to keep it as it is")
        return value


def without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Remove null from the choices of a JSON schema."""
    choices = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    if len(choices) == len(schema.get("anyOf", ())):
        return schema
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    if rest.get("default", ...) is None:
        del rest["default"]
    return rest | (choices[0] if len(choices) == 1 else {"anyOf": choices})


NotNull = _NotNull()


def documented(regex: str) -> Any:
    """A pattern for the OpenAPI document only: the service checks it and has its own error."""
    return Field(json_schema_extra={"pattern": regex})


# The name in a reference, without its scheme; as in ``services.common.references``.
_NAME = r"([A-Za-z0-9][A-Za-z0-9_.\-]{0,63}/)?[A-Za-z0-9][A-Za-z0-9_.\-]{0,127}"
_ID = r"[0-9a-fA-F]{24}"
_VERSION = r"v?(0|[1-9][0-9]{0,11})(\.(0|[1-9][0-9]{0,5}))?"
_UUID = r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
ModelReference = Annotated[
    str, documented(rf"^(models:/)?({_ID}|{_NAME}(@[A-Za-z0-9_.\-]{{1,64}}|/latest|/{_VERSION}))$")
]
DatasetReference = Annotated[
    str,
    documented(rf"^(datasets:/)?({_ID}|{_NAME}(/latest|/{_VERSION}))$"),
]
# Empty text means no reference, like null.
OptionalModelReference = Annotated[
    str, documented(rf"^((models:/)?({_ID}|{_NAME}(@[A-Za-z0-9_.\-]{{1,64}}|/latest|/{_VERSION})))?$")
]
UuidText = Annotated[str, documented(rf"^{_UUID}$")]
OptionalUuid = Annotated[
    str, Field(max_length=128), documented(rf"^({_UUID})?$"), AfterValidator(lambda text: text or None)
]
ObjectIdText = Annotated[str, documented(rf"^{_ID}$")]
VersionText = Annotated[str, documented(r"^(v(0|[1-9][0-9]{0,11})(\.(0|[1-9][0-9]{0,5}))?)?$")]

Name = Annotated[
    str,
    pattern(
        r"^[A-Za-z0-9][A-Za-z0-9_.\-]{0,127}$",
        "1 to 128 letters (A-Z, a-z), digits, '_', '-' and '.', starting with a letter or a digit",
    ),
]
QualifiedName = Annotated[
    str,
    pattern(
        r"^([A-Za-z0-9][A-Za-z0-9_.\-]{0,63}/)?[A-Za-z0-9][A-Za-z0-9_.\-]{0,127}$",
        "a name, or a namespace and a name ('digits', 'vision/digits'): letters (A-Z, a-z), digits, '_', '-' "
        "and '.', each starting with a letter or a digit, up to 128 characters and 64 of the namespace",
    ),
]
Text = Annotated[str, Field(min_length=1, max_length=128)]


def check_tag(tag: str) -> str:
    """Raises: ValueError: a comma, which separates tags in filters."""
    if "," in tag:
        raise ValueError("a tag must not contain a comma: send several tags as separate items of the list")
    return tag


Tag = Annotated[Text, AfterValidator(check_tag), documented(r"^[^,\u0000]*[^,\s\u0000][^,\u0000]*$")]
# Duplicate tags are removed; the order stays.
Tags = Annotated[list[Tag], Field(max_length=100), AfterValidator(lambda tags: list(dict.fromkeys(tags)))]
Separated = Annotated[Annotated[list[Text], Field(max_length=20)] | None, BeforeValidator(_split)]
Confirmed = Annotated[Annotated[list[Text], Field(max_length=300)] | None, BeforeValidator(_split)]
JSONObject = dict[str, Any]
# ``Body`` strips text, but the keys of a free object must not change.
_Key = Annotated[str, StringConstraints(strip_whitespace=False)]
# ``api.operations.document`` describes its keys and values.
Storable = Annotated[
    dict[_Key, Any],
    AfterValidator(check_object),
    WithJsonSchema(
        {
            "type": "object",
            "additionalProperties": True,
            "description": f"up to {MAX_OBJECT_BYTES:,} bytes of JSON, nested at most {MAX_DEPTH} deep; "
            "integers fit in 64 bits",
        }
    ),
]
# Ids are text in every response; the database has other types.
Id = Annotated[str, BeforeValidator(str)]
OptionalId = Annotated[str | None, BeforeValidator(lambda value: None if value is None else str(value))]


def _take_only_numbers(schema: Any) -> None:
    """Make booleans and numbers in a core schema strict: text is not a number, and true is not 1."""
    parts = schema.values() if isinstance(schema, dict) else schema
    for part in list(parts):
        if isinstance(part, dict | list):
            _take_only_numbers(part)
    if not isinstance(schema, dict):
        return
    match schema.get("type"):
        case "bool":
            schema["strict"] = True
        case "int" | "float" if "serialization" not in schema:
            inner = dict(schema)
            schema.clear()
            schema.update(no_info_before_validator_function(_a_number, inner))


def _a_number(value: Any) -> Any:
    if isinstance(value, bool | str):
        raise ValueError("a number, not text and not true or false")
    return value


class Body(BaseModel):
    """Base class of JSON request bodies. Unknown fields are an error."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        _take_only_numbers(schema)
        return schema

    OTHER_NAMES: ClassVar[Mapping[str, str]] = {}
    """Other name of a field → the field."""

    @model_validator(mode="before")
    @classmethod
    def _rename(cls, data: Any) -> Any:
        """Raises: ValueError: a field is sent under two names."""
        sent = [name for name in cls.OTHER_NAMES if isinstance(data, dict) and name in data]
        if not sent:
            return data
        renamed = dict(data)
        for name in sent:
            field = cls.OTHER_NAMES[name]
            if field in renamed:
                raise ValueError(f"{name!r} and {field!r} are two names of one field: send one of them")
            renamed[field] = renamed.pop(name)
        return renamed


def unknown_field(schema: str, where: Sequence[int | str]) -> str:
    """Return the error message for an unknown field; at the top level it lists the known fields.

    Args:
        schema: the name of the class of the body or query.
    """
    found = next((each for each in _schemas() if each.__name__ == schema), None)
    if found is None or len(where) != 1:
        return "there is no such field here"
    known = sorted(found.model_fields)
    close = get_close_matches(str(where[0]), known, n=1)
    meant = f"did you mean {close[0]!r}? " if close else ""
    return f"there is no such field here; {meant}the fields are {', '.join(known)}"


def _schemas(parents: Sequence[type[BaseModel]] | None = None) -> Iterator[type[BaseModel]]:
    for each in (Body, Query) if parents is None else parents:
        yield each
        yield from _schemas(each.__subclasses__())


class Query(BaseModel):
    model_config = ConfigDict(extra="forbid")

    @classmethod
    @cache
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Cache the schema: flask-openapi3 reads it on every request, and building it takes a millisecond."""
        return super().model_json_schema(*args, **kwargs)


class Limited(Query):
    limit: int | None = Field(None, ge=1, description="at most MAX_PAGE_SIZE; by default 20")


class Paged(Limited):
    page: int = Field(1, ge=1, le=1_000_000)


class Answer(BaseModel):
    """Base class of responses built from a stored document. ``_id`` becomes ``id``."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)


Item = TypeVar("Item")


class Pagination(BaseModel):
    page: int
    limit: int
    total: int
    pages: int

    @classmethod
    def of(cls, page: Page[Item]) -> "Pagination":
        return cls(page=page.page, limit=page.limit, total=page.total, pages=page.pages)


class Deleted(BaseModel):
    success: Literal[True] = True
    message: str
    deleted_id: str


class ErrorBody(BaseModel):
    code: str
    message: str
    details: JSONObject


class Error(BaseModel):
    success: Literal[False] = False
    error: ErrorBody
    request_id: str
