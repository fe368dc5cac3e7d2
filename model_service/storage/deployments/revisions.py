"""Functions over the revisions that a deployment's document keeps."""

from collections.abc import Iterable

from bson import ObjectId

from model_service.storage.common.documents import changed
from model_service.storage.deployments.documents import Deployment, DeploymentConfig, Member, Revision

KEPT_REVISIONS = 5


def packages_of(revisions: Iterable[Revision]) -> list[ObjectId]:
    """Return the ids of the blobs that these revisions hold, once for each occurrence."""
    return [
        member["package"]["file_id"]
        for revision in revisions
        for member in (*revision["routing"]["members"], revision["routing"].get("shadow"))
        if member is not None
    ]


def built_of(deployment: Deployment) -> list[ObjectId]:
    """Return the id of the package that was built for a deployment, if there is one."""
    package = deployment.get("delivery", {}).get("package")
    return [] if package is None else [package["file_id"]]


def kept(revisions: list[Revision], live: int | None) -> list[Revision]:
    """Return the newest KEPT_REVISIONS. If the live revision or the target of an automatic rollback is older,
    it takes the place of the oldest of these.
    """
    back = former(revisions[-1], revisions)
    needed = {live} if back is None else {live, back["revision"]}
    older = [entry for entry in revisions[:-KEPT_REVISIONS] if entry["revision"] in needed]
    return [*older, *revisions[-KEPT_REVISIONS:][len(older) :]]


def marked(revisions: list[Revision], number: int, **fields: object) -> list[Revision]:
    return [changed(entry, fields) if entry["revision"] == number else entry for entry in revisions]


def former(newest: Deployment | Revision, revisions: list[Revision]) -> Revision | None:
    """Return the latest earlier revision with other traffic that was served and not rolled back from.

    Returns None if there is none. A revision with the same traffic as one that was rolled back from is
    skipped too, unless that traffic was served again since: then a user chose it again, or only its
    ``config`` was bad.
    """
    judged = [_traffic(newest)]
    for entry in reversed(revisions):
        is_earlier = entry["revision"] < newest["revision"]
        if not is_earlier or _traffic(entry) in judged:
            continue
        if entry["rolled_back"]:
            judged.append(_traffic(entry))
        elif entry["live_at"] is not None:
            return entry
    return None


def restored_config(entry: Revision, document: Deployment) -> DeploymentConfig:
    """Return the revision's configuration with the present number of replicas, if the type has any."""
    if "auto_scaling" not in document["config"]:
        return entry["config"]
    return {**entry["config"], "auto_scaling": document["config"]["auto_scaling"]}


def _traffic(entry: Deployment | Revision) -> tuple[str, list[Member]]:
    routing = entry["routing"]
    return routing["mode"], routing["members"]
