"""The behaviour that every target of deployments must have."""

import pytest

from model_service.deployers.base import TargetStatus
from model_service.states import DeploymentStatus
from tests.api.finished import wrong_references
from tests.deployers.conftest import Target
from tests.waiting import wait_for

ACTIVE, FAILED, INACTIVE = DeploymentStatus.ACTIVE, DeploymentStatus.FAILED, DeploymentStatus.INACTIVE


def reached(target: Target, deployment_id: str, wanted: TargetStatus) -> None:
    def there() -> bool:
        target.act()
        found = target.deployer.status(deployment_id)
        return found is not None and (found.status, found.live_revision) == (
            wanted.status,
            wanted.live_revision,
        )

    wait_for(there, f"the target to be {wanted}")


def active(target: Target) -> str:
    """The id of an active deployment."""
    deployment = target.store()
    target.deployer.create(deployment)
    reached(target, deployment["_id"], TargetStatus(ACTIVE, 1))
    return deployment["_id"]


def types(target: Target, deployment_id: str) -> list[str]:
    found, _ = target.deployer.events(deployment_id, None, 0, 100)
    return [event["event_type"] for event in reversed(found)]


def test_a_created_deployment_becomes_active(target: Target) -> None:
    deployment_id = active(target)
    status = target.deployer.status(deployment_id)
    assert status == TargetStatus(ACTIVE, 1, None)
    url = target.deployer.endpoint_url(deployment_id, "http://registry:8000")
    assert (url is not None) == target.deployer.has_endpoint


def test_create_can_be_repeated_at_any_time(target: Target) -> None:
    deployment = target.store()
    target.deployer.create(deployment)
    target.deployer.create(deployment)
    reached(target, deployment["_id"], TargetStatus(ACTIVE, 1))
    before = types(target, deployment["_id"])
    target.deployer.create(deployment)
    target.act()
    assert types(target, deployment["_id"]) == before
    assert before.count("deployed") == 1


def test_an_update_replaces_the_live_revision(target: Target) -> None:
    deployment_id = active(target)
    revised = target.revise(deployment_id)
    target.deployer.update(revised)
    status = target.deployer.status(deployment_id)
    assert status is not None
    assert status.status == ACTIVE  # the previous revision stays until the new one is there
    target.deployer.update(revised)
    reached(target, deployment_id, TargetStatus(ACTIVE, 2))
    target.deployer.update(revised)
    target.act()
    assert types(target, deployment_id).count("updated") == 1


def test_a_late_update_does_not_bring_an_old_revision_back(target: Target) -> None:
    deployment_id = active(target)
    second, third = target.revise(deployment_id), target.revise(deployment_id)
    target.deployer.update(third)
    target.deployer.update(second)
    reached(target, deployment_id, TargetStatus(ACTIVE, 3))
    target.act()
    reached(target, deployment_id, TargetStatus(ACTIVE, 3))


def test_a_package_that_cannot_be_used_fails_with_a_reason(target: Target) -> None:
    if not target.checks_packages:
        pytest.skip("this target offers a package as it is")
    deployment = target.store(bad=True)
    target.deployer.create(deployment)
    reached(target, deployment["_id"], TargetStatus(FAILED))
    status = target.deployer.status(deployment["_id"])
    assert status is not None
    assert status.message
    assert types(target, deployment["_id"])[-1] == "failed"
    assert [entry["message"] for entry in target.deployer.logs(deployment["_id"], "error", 10)]
    target.deployer.update(target.revise(deployment["_id"]))
    reached(target, deployment["_id"], TargetStatus(ACTIVE, 2))


def test_a_failed_update_leaves_the_previous_revision_live(target: Target) -> None:
    if not target.checks_packages:
        pytest.skip("this target offers a package as it is")
    deployment_id = active(target)
    target.deployer.update(target.revise(deployment_id, bad=True))
    wait_for(lambda: target.act() or "update_failed" in types(target, deployment_id), "the failure")
    status = target.deployer.status(deployment_id)
    assert status is not None
    assert (status.status, status.live_revision, bool(status.message)) == (ACTIVE, 1, True)


def test_an_inactive_deployment_stops_and_starts_again(target: Target) -> None:
    deployment_id = active(target)
    stopped = target.switch(deployment_id, INACTIVE)
    target.deployer.update(stopped)
    target.deployer.update(stopped)
    reached(target, deployment_id, TargetStatus(INACTIVE, 1))
    target.deployer.update(target.switch(deployment_id, DeploymentStatus.DEPLOYING))
    reached(target, deployment_id, TargetStatus(ACTIVE, 1))


def test_a_deployment_is_stopped_while_it_starts(target: Target) -> None:
    deployment = target.store()
    target.deployer.create(deployment)
    target.deployer.update(target.switch(deployment["_id"], INACTIVE))
    target.act()
    status = target.deployer.status(deployment["_id"])
    assert status is not None
    assert status.status == INACTIVE
    assert target.stores.package_builds.get(deployment["_id"]) is None


def test_scaling_can_be_repeated(target: Target) -> None:
    if not target.deployer.has_endpoint:
        pytest.skip("this target has no replicas")
    deployment_id = active(target)
    before = target.stores.deployments.get(deployment_id)
    assert before is not None
    scaled = target.stores.database.transaction(
        lambda session: target.stores.deployments.set_scaling(
            before, {"min_replicas": 2, "max_replicas": 2, "target_utilization": 70}, session
        )
    )
    target.deployer.scale(scaled)
    target.deployer.scale(scaled)
    reached(target, deployment_id, TargetStatus(ACTIVE, 1))
    assert types(target, deployment_id).count("scaled") == 1


def test_events_are_paged_newest_first_and_filtered(target: Target) -> None:
    deployment_id = active(target)
    newest, total = target.deployer.events(deployment_id, None, 0, 1)
    assert [event["event_type"] for event in newest] == ["deployed"]
    older, same = target.deployer.events(deployment_id, None, 1, 1)
    assert (same, older == newest) == (total, False)
    only, count = target.deployer.events(deployment_id, "deployed", 0, 10)
    assert (len(only), count) == (1, 1)


def test_a_deleted_deployment_leaves_nothing(target: Target) -> None:
    deployment_id = active(target)
    target.deployer.delete(deployment_id)
    target.deployer.delete(deployment_id)
    target.remove(deployment_id)
    target.deployer.delete(deployment_id)
    assert target.deployer.status(deployment_id) is None
    assert target.stores.package_builds.get(deployment_id) is None
    assert wrong_references(target.stores.database) == []


def test_a_deployment_is_deleted_while_it_starts(target: Target) -> None:
    deployment = target.store()
    target.deployer.create(deployment)
    target.deployer.delete(deployment["_id"])
    target.remove(deployment["_id"])
    target.act()
    assert target.deployer.status(deployment["_id"]) is None
    assert wrong_references(target.stores.database) == []


def test_an_unknown_deployment(target: Target) -> None:
    unknown = "9d1c4f6e-2a0b-4f5d-8c47-0f6f3c1d2e04"
    assert target.deployer.status(unknown) is None
    assert target.deployer.logs(unknown, None, 10) == []
    assert target.deployer.events(unknown, None, 0, 10) == ([], 0)
    target.deployer.delete(unknown)
