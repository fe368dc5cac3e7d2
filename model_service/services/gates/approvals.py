"""Users approve that a version gets an alias."""

from model_service.actor import RESERVED_NAMES, Permission, actor, may_read, namespace_of
from model_service.errors import Conflict, NotFound, NotPermitted
from model_service.services.common.references import check_alias
from model_service.services.gates.gates import checksum_of, require_users
from model_service.services.models.models import ModelService
from model_service.storage.common.db import Session, now
from model_service.storage.gates.documents import Approval, new_approval
from model_service.storage.stores import Stores


class ApprovalService:
    def __init__(self, stores: Stores, models: ModelService) -> None:
        self._database = stores.database
        self._stored = stores.models
        self._approvals = stores.approvals
        self._models = models

    def of_version(self, reference: str, alias: str | None = None) -> list[Approval]:
        """Return the approvals of a version, oldest first. Raises: MalformedId, NotFound."""
        return self._approvals.of_version(self._models.get(reference)["_id"], alias)

    def approve(self, reference: str, alias: str, comment: str | None) -> Approval:
        """Store the caller's approval in place of an earlier one. It holds for the version's present files.

        Raises:
            MalformedId, NotFound. InvalidField: the alias is malformed.
            NotPermitted: the caller may neither write nor deploy in the namespace.
            Conflict: the caller is no user: authentication is off, or the request has API_KEY.
        """
        check_alias(alias)
        user = _user()
        model_id = self._models.id_of(reference)

        def work(session: Session) -> Approval:
            model = self._stored.get(model_id, session)
            if model is None or not may_read(model["name"]):
                raise self._models.missing(reference)
            _require_approver(model["name"])
            fields = {
                **{"model_id": model_id, "name": model["name"], "namespace": model["namespace"]},
                **{"version": model["version"], "alias": alias, "source_checksum": checksum_of(model)},
                **{"approved_by": user, "comment": comment},
            }
            approval = new_approval(fields, now())
            self._approvals.put(approval, session)
            return approval

        return self._database.transaction(work)

    def withdraw(self, reference: str, alias: str) -> None:
        """Remove the caller's approval.

        Raises:
            MalformedId. Conflict: as ``approve``.
            NotFound: there is no such version, or the caller has not approved it for this alias.
        """
        user = _user()
        model_id = self._models.get(reference)["_id"]
        found = self._database.transaction(
            lambda session: self._approvals.withdraw(model_id, alias, user, session)
        )
        if not found:
            raise NotFound("approval", f"{reference} for {alias} by {user}")


def _user() -> str:
    """Return the caller's name. Raises: Conflict: the caller is no user."""
    require_users("An approval")
    if actor().name in RESERVED_NAMES:
        raise Conflict("Approvals come from users: sign in as a user instead of sending API_KEY.")
    return actor().name


def _require_approver(name: str) -> None:
    who, namespace = actor(), namespace_of(name)
    if not (who.may(Permission.WRITE, namespace) or who.may(Permission.DEPLOY, namespace)):
        raise NotPermitted(
            f"{who.name!r} may not approve versions of {name}: it needs the permission 'write' or 'deploy'. "
            "An administrator can grant it.",
            permission=Permission.DEPLOY.value,
            namespace=namespace,
        )
