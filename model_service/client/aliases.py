"""Calls on aliases: names that move from version to version, as in ``models:/NAME@ALIAS``."""

from typing import Any

from model_service.client.calls import Calls
from model_service.client.errors import UnexpectedAnswer
from model_service.client.gate_types import AliasEvent
from model_service.client.models import model_url
from model_service.client.transport.http import segment
from model_service.client.types import Alias


class AliasCalls(Calls):
    def set_alias(self, model_id: str, alias: str, *, comment: str | None = None) -> Alias:
        """Set the alias on this version, and remove it from the name's other version in the same step.

        Args:
            comment: the reason, for the history of the alias.

        Raises:
            Conflict: the version is archived, or does not pass the gate of the alias:
                ``details["missing"]`` lists the missing conditions.
            InvalidRequest: an invalid alias, or one that looks like a version.
        """
        query = {"comment": comment}
        return Alias.from_json(self._transport.json("PUT", _url(model_id, alias), query=query))

    def delete_alias(self, model_id: str, alias: str) -> dict[str, Any]:
        """Delete an alias. NotFound may mean that an earlier try, whose response was lost, deleted it."""
        return self._transport.json("DELETE", _url(model_id, alias))

    def list_aliases(self, name: str) -> list[Alias]:
        """Return the aliases of a name, those of its highest version first."""
        answer = self._transport.json("GET", "/api/v1/aliases", query={"name": name})
        if not isinstance(answer.get("aliases"), list):
            raise UnexpectedAnswer("The service's response is not a list of aliases.")
        return [Alias.from_json(alias) for alias in answer["aliases"]]

    def alias_history(self, name: str, alias: str, *, limit: int | None = None) -> list[AliasEvent]:
        """Return who moved the alias and why, with its gate and approvals, newest first."""
        query = {"name": name, "alias": alias, "limit": limit}
        answer = self._transport.json("GET", "/api/v1/aliases/history", query=query)
        return [AliasEvent.from_json(event) for event in answer["events"]]


def _url(model_id: str, alias: str) -> str:
    return f"{model_url(model_id)}/aliases/{segment(alias)}"
