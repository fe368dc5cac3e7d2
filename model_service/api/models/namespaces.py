"""/api/v1/namespaces"""

from flask import Response
from flask_openapi3 import APIBlueprint, Tag

from model_service.api.http.context import answer, services
from model_service.api.http.policy import Caller, policy
from model_service.api.schemas.access import NamespaceList, ReadableNamespace

api = APIBlueprint("namespaces", __name__, url_prefix="/api/v1/namespaces", abp_tags=[Tag(name="access")])


@api.get("", responses={200: NamespaceList})
@policy(Caller.IDENTIFIED)
def list_namespaces() -> Response:
    """List the namespaces that the caller can read.

    Each with the caller's permissions in it.
    """
    readable = services().namespaces.readable()
    return answer(NamespaceList(namespaces=[ReadableNamespace.model_validate(one) for one in readable]))
