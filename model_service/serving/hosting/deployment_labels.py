"""The label of each deployment in the metrics: bounded, and equal in every process of a server."""

from collections.abc import Mapping

from model_service.serving.hosting.loaded_deployment import LoadedDeployment

# At most this many deployments have their own series; all others share OTHER.
MAX_DEPLOYMENTS = 200
OTHER = "other"


class Labels:
    """The labels at one moment; never changed, so that any thread can read them.

    ``names`` are those of all deployments to serve, by id; None before the first query. The first
    MAX_DEPLOYMENTS of them in sorted order are labels, so that processes agree whatever each has loaded.
    """

    def __init__(self, hosted: Mapping[str, LoadedDeployment], names: Mapping[str, str] | None) -> None:
        self.hosted = hosted
        self.names = names
        own = set(sorted({*(names or {}).values()} - {OTHER})[:MAX_DEPLOYMENTS])
        # Labels of the loaded deployments, by id. One that is no longer served has none.
        self.by_id = {
            key: name if name in own else OTHER for key, name in (names or {}).items() if key in hosted
        }
        self._own = own | {OTHER}
        self._members: dict[str, set[str]] = {OTHER: {OTHER}}
        for key, label in self.by_id.items():
            if label != OTHER:
                models = (*hosted[key].route.members, *hosted[key].models)
                self._members.setdefault(label, set()).update(model.name for model in models)

    def keeps(self, label: str) -> bool:
        """Return whether the label has a series."""
        return self.names is None or label in self._own

    def keeps_member(self, label: str, member: str) -> bool:
        """Return whether the label has a series of this member: any, if no deployment of it is loaded."""
        return label not in self._members or member in self._members[label]
