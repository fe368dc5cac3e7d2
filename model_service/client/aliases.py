"""Calls on aliases: names that move from version to version, as in ``models:/NAME@ALIAS``."""

from typing import Any

from model_service.client.calls import Calls
from model_service.client.errors import UnexpectedAnswer
from model_service.client.models import model_url
from model_service.client.transport.http import segment
from model_service.client.types import Alias


class AliasCalls(Calls):
    def set_alias(self, model_id: str, alias: str) -> Alias:
        """Set the alias on this version, and remove it from the name's other version in the same step.

        Raises:
            Conflict: the version is archived.
            InvalidRequest: an invalid alias, or one that looks like a version.
        """
        return Alias.from_json(self._transport.json("PUT", _url(model_id, alias)))

    def delete_alias(self, model_id: str, alias: str) -> dict[str, Any]:
        """Delete an alias. NotFound may mean that an earlier try, whose response was lost, deleted it."""
        return self._transport.json("DELETE", _url(model_id, alias))

    def list_aliases(self, name: str) -> list[Alias]:
        """Return the aliases of a name, those of its highest version first."""
        answer = self._transport.json("GET", "/api/v1/aliases", query={"name": name})
        if not isinstance(answer.get("aliases"), list):
            raise UnexpectedAnswer("The service's response is not a list of aliases.")
        return [Alias.from_json(alias) for alias in answer["aliases"]]


def _url(model_id: str, alias: str) -> str:
    return f"{model_url(model_id)}/aliases/{segment(alias)}"
