"""The targets of the conformance suite, each with everything that it needs to act."""

import uuid
from dataclasses import dataclass, field
from typing import Any

import pytest

from model_service.deployers import build_deployers
from model_service.deployers.base import Deployer
from model_service.jobs.build_package import build_package
from model_service.jobs.context import Context
from model_service.states import DeploymentStatus, DeploymentType
from model_service.storage.blobs.blobs import Blob
from model_service.storage.common.db import Session, now
from model_service.storage.deployments.documents import (
    DEFAULT_CONFIG,
    NEW_DELIVERY,
    Deployment,
    DeploymentConfig,
    Member,
    Routing,
    new_deployment,
    new_deployment_key,
)
from model_service.storage.stores import Stores
from tests.jobs.conftest import context
from tests.serving.conftest import World, package_zip, world

__all__ = ["context", "package_zip", "world"]

CONFIG: dict[DeploymentType, DeploymentConfig] = {
    DeploymentType.PLATFORM_ENDPOINT: DEFAULT_CONFIG,
    DeploymentType.DOWNLOAD: {"expires_in_s": 60},
    DeploymentType.EDGE_PACKAGE: {
        "expires_in_s": 60,
        "target_platform": "linux-arm64",
        "includes_sample_code": True,
    },
    DeploymentType.CONTAINER: {
        "expires_in_s": 60,
        "inference_framework": "model-service",
        "image_name": "exports/digits",
        "image_tag": "latest",
    },
}


@dataclass
class Target:
    """A target, and the registry that stores the deployments for it.

    Args:
        waiting: the ids of deployments whose packages a worker is to build.
        checks_packages: a package that is no package makes a deployment fail.
    """

    deployer: Deployer
    stores: Stores
    package: bytes
    waiting: list[str] = field(default_factory=list)
    checks_packages: bool = True

    def act(self) -> None:
        """Let a worker do what waits; the inference servers act on their own."""
        while self.waiting:
            build_package(self.waiting.pop(0))

    def _routing(self, *, bad: bool) -> Routing:
        content = b"no package" if bad else self.package
        written = self.stores.blobs.write(iter([content]), limit_bytes=1 << 30)
        stored: list[Any] = []

        def refer(blob: Blob, session: Session) -> None:
            stored[:] = [blob.reference()]

        self.stores.blobs.publish(written, refer)
        member: Member = {
            "name": "linux-arm64",
            "export_job_id": str(uuid.uuid4()),
            "model_name": "scaling",
            "model_version": "v1.0",
            "format": "onnx",
            "package": stored[0],
            "weight": 100,
            "inputs": None,
            "verdict": "verified",
        }
        return {
            "mode": "split",
            "members": [member],
            "sticky_header": None,
            "shadow": None,
            "rollback": None,
        }

    def store(self, *, bad: bool = False) -> Deployment:
        """Store a new deployment in the registry."""
        deployment_id, kind, routing = str(uuid.uuid4()), self.deployer.type, self._routing(bad=bad)
        names: Any = {"name": "digits", "display_name": None}
        deployment = new_deployment(
            deployment_id,
            "ada",
            names,
            None,
            kind,
            routing,
            CONFIG[kind],
            now(),
            delivery=None if self.deployer.has_endpoint else NEW_DELIVERY,
        )
        key = new_deployment_key(
            str(uuid.uuid4()), deployment_id, "default", "pk_", "0" * 64, expires_at=None, at=now()
        )

        def work(session: Session) -> None:
            assert self.stores.deployments.insert(deployment, key, session)
            self._release(routing, session)

        self.stores.database.transaction(work)
        return deployment

    def revise(self, deployment_id: str, *, bad: bool = False) -> Deployment:
        """Store another revision."""
        routing = self._routing(bad=bad)

        def work(session: Session) -> Deployment:
            before = self.stores.deployments.get(deployment_id, session)
            assert before is not None
            after = self.stores.deployments.revise(before, routing, before["config"], session)
            assert after is not None
            self._release(routing, session)
            return after

        return self.stores.database.transaction(work)

    def _release(self, routing: Routing, session: Session) -> None:
        """Leave the package to the deployment alone."""
        self.stores.blobs.release(routing["members"][0]["package"]["file_id"], session)

    def switch(self, deployment_id: str, to: DeploymentStatus) -> Deployment:
        def work(session: Session) -> None:
            assert self.stores.deployments.shift(deployment_id, to, str(to), session, changes={}, data={})

        self.stores.database.transaction(work)
        found = self.stores.deployments.get(deployment_id)
        assert found is not None
        return found

    def remove(self, deployment_id: str) -> None:
        """Delete the deployment from the registry, as after ``Deployer.delete``."""
        self.stores.database.transaction(
            lambda session: self.stores.deployments.delete(deployment_id, session)
        )


@pytest.fixture(params=list(DeploymentType), ids=str)
def target(request: pytest.FixtureRequest, world: World, context: Context, package_zip: bytes) -> Target:
    kind: DeploymentType = request.param
    waiting: list[str] = []
    deployer = build_deployers(world.settings, world.stores, waiting.append)[kind]
    checks = kind != DeploymentType.DOWNLOAD
    if kind == DeploymentType.PLATFORM_ENDPOINT:
        world.host()
    return Target(deployer, world.stores, package_zip, waiting, checks)
