"""What every resource's requests and answers are made of."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import cache
from typing import Annotated, Any, ClassVar, Literal

import orjson
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from model_service.sentences import pattern
from model_service.services.paging import Page

MAX_DEPTH = 32
MAX_OBJECT_BYTES = 128 * 1024


def check_object(value: dict[str, Any]) -> dict[str, Any]:
    """A free object of a body, most of which ``request_body`` has checked.

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
            if key.startswith("$"):  # $ref would come back as a reference
                raise ValueError(f"the key {key[:40]!r} starts with '$'")
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            _check_keys(inner, deepest - 1)


def _split(value: Any) -> Any:
    """``tags=a, b`` and ``tags=a&tags=b`` alike; what names nothing is no filter."""
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        return value  # no such list: its type says so
    return [part for text in value for one in text.split(",") if (part := one.strip())] or None


def _stored(moment: datetime) -> datetime:
    """UTC, to the millisecond: as the database keeps it."""
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("not a time of this calendar") from None
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


Moment = Annotated[AwareDatetime, AfterValidator(_stored)]


def _not_null(value: Any) -> Any:
    if value is None:
        raise ValueError("leave it out to keep it as it is")
    return value


NotNull = AfterValidator(_not_null)

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
        raise ValueError("a tag has no comma: send several tags as several items of the list")
    return tag


Tag = Annotated[Text, AfterValidator(check_tag)]
# Each tag once, in the order in which they were sent.
Tags = Annotated[list[Tag], Field(max_length=100), AfterValidator(lambda tags: list(dict.fromkeys(tags)))]
DatasetReference = Annotated[
    str, Field(max_length=300, description="an id, or datasets:/NAME/VERSION, datasets:/NAME/latest")
]
Separated = Annotated[Annotated[list[Text], Field(max_length=20)] | None, BeforeValidator(_split)]
Confirmed = Annotated[Annotated[list[Text], Field(max_length=300)] | None, BeforeValidator(_split)]
JSONObject = dict[str, Any]
# ``Body`` strips the text of its fields, and would strip the keys of a free object too.
_Key = Annotated[str, StringConstraints(strip_whitespace=False)]
Storable = Annotated[dict[_Key, Any], AfterValidator(check_object)]
# Ids are text in every answer, whatever the database keeps.
Id = Annotated[str, BeforeValidator(str)]
OptionalId = Annotated[str | None, BeforeValidator(lambda value: None if value is None else str(value))]


class Body(BaseModel):
    """A request's JSON. An unknown field is a mistake that we name rather than ignore."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

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
    """What to say of a field that the schema does not have; it lists those that it has, at the top level.

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
        """flask-openapi3 asks for this on every request; making it costs a millisecond."""
        return super().model_json_schema(*args, **kwargs)


class Limited(Query):
    limit: int | None = Field(None, ge=1, description="at most MAX_PAGE_SIZE; by default 20")


class Paged(Limited):
    page: int = Field(1, ge=1, le=1_000_000)


class Answer(BaseModel):
    """Read from a stored document: ``_id`` becomes ``id``, what is not named here stays inside."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)


class Pagination(BaseModel):
    page: int
    limit: int
    total: int
    pages: int

    @classmethod
    def of(cls, page: Page) -> "Pagination":
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
