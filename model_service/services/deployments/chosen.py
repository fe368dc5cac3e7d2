"""The export jobs that a deployment request names."""

from collections.abc import Collection

from typing_extensions import TypedDict

from exporters.base import VERIFIED
from model_service.actor import Permission, require
from model_service.errors import InvalidField, NotVerified
from model_service.services.exports.exports import ExportService
from model_service.states import ExportStatus
from model_service.storage.deployments.documents import Deployment, Member, Routing
from model_service.storage.exports.documents import ExportJob


class Unverified(TypedDict):
    """An export that is deployed without being verified."""

    export_job_id: str
    status: str
    verdict: str | None


class ChosenExports:
    """The export jobs of a request, each read and checked once."""

    def __init__(
        self,
        exports: ExportService,
        present: Deployment | None,
        *,
        override: bool = False,
        accepted: Collection[str] = (VERIFIED,),
    ) -> None:
        """As ``DeploymentPlans.routing``; ``accepted`` are the verdicts that need no override."""
        self._exports = exports
        self._override = override
        self._accepted = accepted
        self._namespace: str | None = present["namespace"] if present else None
        self._passed = set(exports_of(present["routing"])) if present else set()
        self._jobs: dict[str, ExportJob] = {}
        self.unverified: list[Unverified] = []

    def job(self, job_id: str) -> ExportJob:
        if job_id not in self._jobs:
            job = self._exports.get(job_id)
            require(Permission.DEPLOY, job["model_name"])
            if self._namespace is None:
                self._namespace = job["namespace"]
            if job["namespace"] != self._namespace:
                raise InvalidField.of(
                    "export_job_id",
                    f"in the namespace {job['namespace']!r}; all exports of a deployment must be in "
                    f"one namespace, here {self._namespace!r}",
                    wrong=f"export job {job_id}",
                )
            if job["_id"] not in self._passed:
                self._check_verdict(job)
            self._jobs[job_id] = job
        return self._jobs[job_id]

    def _check_verdict(self, job: ExportJob) -> None:
        status, verdict = job["status"], verdict_of(job)
        if status == ExportStatus.COMPLETED and verdict in self._accepted:
            return
        overridable = "package" in job and self._accepted == (VERIFIED,)
        if self._override and overridable:
            require(Permission.ADMIN, job["model_name"])
            self.unverified.append({"export_job_id": job["_id"], "status": status, "verdict": verdict})
            return
        needed = (
            "that was verified against its source"
            if self._accepted == (VERIFIED,)
            else "that was verified against its source, or that could not be executed,"
        )
        reason = (
            "it has no package to deploy"
            if self._override and "package" not in job
            else f"only a completed export {needed} can be deployed"
            + (", unless an administrator overrides that" * overridable)
        )
        raise NotVerified(
            f"Export job {job['_id']} is {status} with verdict {verdict}: {reason}.",
            export_job_id=job["_id"],
            status=status,
            verdict=verdict,
        )


def exports_of(routing: Routing) -> list[str]:
    """Return the ids of the export jobs of a routing."""
    shadow = routing["shadow"]
    return [each["export_job_id"] for each in (*routing["members"], *([shadow] if shadow else []))]


def verdict_of(job: ExportJob) -> str | None:
    fidelity = job.get("fidelity")
    return fidelity.get("verdict") if fidelity else None


def member_of(job: ExportJob, name: str, weight: int, inputs: dict[str, str] | None) -> Member:
    return {
        "name": name,
        "export_job_id": job["_id"],
        "model_name": job["model_name"],
        "model_version": job["model_version"],
        "format": job["export_format"],
        "package": job["package"],
        "weight": weight,
        "inputs": inputs,
    }
