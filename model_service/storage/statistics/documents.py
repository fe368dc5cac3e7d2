"""The documents of the counters. The order of an id's fields is significant.

A collection may also have documents with other ids, such as a mark, which no reader of counters selects.
"""

from typing import Annotated, NotRequired

from pydantic import SkipValidation
from typing_extensions import TypedDict


class GroupId(TypedDict):
    namespace: str
    algorithm: str
    status: str
    slot: int


class ModelCounter(TypedDict):
    """The models of a group, the bytes of their files, and how many were created on each day (YYYYMMDD)."""

    _id: Annotated[GroupId, SkipValidation]
    models: NotRequired[int]
    bytes: NotRequired[int]
    created: NotRequired[dict[str, int]]


class SlotId(TypedDict):
    slot: int


class BlobCounter(TypedDict):
    _id: Annotated[SlotId, SkipValidation]
    blobs: NotRequired[int]
    bytes: NotRequired[int]


class NamespaceSlotId(TypedDict):
    namespace: str
    slot: int


class DownloadCounter(TypedDict):
    """Downloads: in total, by day (YYYYMMDD) and by hour (YYYYMMDDHH)."""

    _id: Annotated[NamespaceSlotId, SkipValidation]
    total: NotRequired[int]
    days: NotRequired[dict[str, int]]
    hours: NotRequired[dict[str, int]]
