"""Namespaces and their models. Roles in a namespace are stored with the user."""

from dataclasses import dataclass

from model_service.actor import Permission, actor
from model_service.storage.models.namespaces import Namespaces


@dataclass(frozen=True)
class Namespace:
    """One namespace. ``permissions`` are the caller's."""

    namespace: str
    models: int
    size_bytes: int
    permissions: list[Permission]


class NamespaceService:
    def __init__(self, namespaces: Namespaces) -> None:
        self._namespaces = namespaces

    def readable(self) -> list[Namespace]:
        """Return the readable namespaces: those with models, and those in which the caller has a role."""
        who = actor()
        counts = self._namespaces.counts(who.readable_namespaces())
        granted = [name for name in who.in_namespaces if who.may(Permission.READ, name)]
        return [
            Namespace(
                name,
                counts[name]["models"] if name in counts else 0,
                counts[name]["size_bytes"] if name in counts else 0,
                sorted(permission for permission in Permission if who.may(permission, name)),
            )
            for name in sorted({*counts, *granted})
        ]
