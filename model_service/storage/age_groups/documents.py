"""The documents of age groups and of integer ids."""

from datetime import datetime
from typing import Annotated, NotRequired

from typing_extensions import TypedDict

from model_service.states import AgeGroupStatus
from model_service.storage.common.documents import JSONObject, StoredId, one_of


class AgeGroup(TypedDict):
    """A range of ages of one model in one environment; ``age_group_max`` belongs to the next one."""

    _id: int
    model_name: str
    namespace: str
    model_id: StoredId
    model_version: str
    environment: str
    age_group_min: float
    age_group_max: float
    status: Annotated[str, one_of(AgeGroupStatus)]
    exported_as: str  # the name of the export's folder
    model_export_path: str
    export_metadata: JSONObject
    deployed_at: datetime
    deployed_by: str
    ended_at: NotRequired[datetime]
    replaced_by: NotRequired[int]
    backup_path: NotRequired[str]


class IntegerId(TypedDict):
    """The integer id of a document whose own id is no integer. ``_id`` is ``KIND:NUMBER``."""

    _id: str
    kind: str
    number: int
    subject_id: str


class IntegerCounter(TypedDict):
    """The last integer that was given to a kind of document. A number is never given twice."""

    _id: str
    last: int
