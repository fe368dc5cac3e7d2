"""What the inference servers tell of a deployment, and what becomes of it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from model_service.states import DeploymentStatus
from model_service.storage.deployments.revisions import KEPT_REVISIONS
from tests.api.finished import wrong_references
from tests.storage.conftest import World


def test_of_several_servers_one_makes_it_live(world: World, routing: Callable[..., Any]) -> None:
    deployment_id = world.deploy(routing("v1.0"))
    with ThreadPoolExecutor(4) as pool:
        first = list(pool.map(lambda _: world.serving_reports.made_live(deployment_id, 1), range(4)))
    assert sorted(first) == [False, False, False, True]
    stored = world.read(deployment_id)
    assert (stored["status"], stored["live_revision"]) == ("active", 1)
    assert stored["deployed_at"] is not None
    assert not world.serving_reports.made_live(deployment_id, 2)
    assert world.revise(deployment_id, routing("v1.1")) == 2
    assert not world.serving_reports.made_live(deployment_id, 1)  # too late
    assert world.serving_reports.made_live(deployment_id, 2)
    assert world.events(deployment_id) == [("deployed", "pending", "active"), ("updated", "active", "active")]


def test_an_update_that_fails_is_told_once_and_does_not_stop_what_is_served(
    world: World, routing: Callable[..., Any]
) -> None:
    deployment_id = world.deploy(routing("v1.0"))
    world.serving_reports.made_live(deployment_id, 1)
    assert not world.serving_reports.update_failed(deployment_id, 1, "another server serves it")
    world.revise(deployment_id, routing("v1.1"))
    assert world.serving_reports.update_failed(deployment_id, 2, "corrupt")
    assert not world.serving_reports.update_failed(deployment_id, 2, "corrupt, again")
    stored = world.read(deployment_id)
    assert (stored["status"], stored["live_revision"], stored["error_message"]) == ("active", 1, "corrupt")
    assert world.events(deployment_id)[1:] == [("update_failed", "active", "active")]
    world.revise(deployment_id, routing("v1.2"))
    assert world.read(deployment_id)["error_message"] is None


def test_one_that_was_never_served_fails(world: World, routing: Callable[..., Any]) -> None:
    deployment_id = world.deploy(routing("v1.0"))
    world.deployments.move(deployment_id, DeploymentStatus.DEPLOYING)
    assert world.serving_reports.update_failed(deployment_id, 1, "corrupt")
    assert world.read(deployment_id)["status"] == "failed"
    assert world.events(deployment_id)[-1] == ("failed", "deploying", "failed")


def test_what_fails_again_and_again_is_not_gone_back_to(world: World, routing: Callable[..., Any]) -> None:
    first, second, third = (routing(name) for name in ("v1.0", "v1.1", "v1.2"))
    deployment_id = world.deploy(first)
    world.serving_reports.made_live(deployment_id, 1)
    assert not world.serving_reports.roll_back_to_former(deployment_id, 1, "slow", {})
    for number, each in enumerate((second, third), start=2):
        world.revise(deployment_id, each)
        world.serving_reports.made_live(deployment_id, number)
    assert world.serving_reports.roll_back_to_former(deployment_id, 3, "slow", {"p95_ms": 900})
    assert not world.serving_reports.roll_back_to_former(
        deployment_id, 3, "slow", {}
    )  # another server was faster
    stored = world.read(deployment_id)
    assert (stored["revision"], stored["model_version"]) == (4, "v1.1")
    world.serving_reports.made_live(deployment_id, 4)
    assert world.serving_reports.roll_back_to_former(deployment_id, 4, "slow", {})
    assert world.read(deployment_id)["model_version"] == "v1.0"
    told = world.database.deployment_history.find_one({"event_type": "rolled_back"}, sort=[("_id", 1)])
    assert told is not None
    data = {"from": 3, "to": 2, "revision": 4, "reason": "slow", "model_version": "v1.1", "p95_ms": 900}
    assert (told["event_data"], told["created_by_user_id"]) == (data, "service")
    assert wrong_references(world.database) == []


def test_a_rollback_of_the_configuration_alone_refuses_no_traffic(
    world: World, routing: Callable[..., Any]
) -> None:
    first = routing("v1.0")
    deployment_id = world.deploy(first)
    world.serving_reports.made_live(deployment_id, 1)
    world.revise(deployment_id, first)
    world.serving_reports.made_live(deployment_id, 2)
    world.restore(deployment_id, 1)
    world.serving_reports.made_live(deployment_id, 3)
    world.revise(deployment_id, routing("v1.1"))
    world.serving_reports.made_live(deployment_id, 4)
    assert world.serving_reports.roll_back_to_former(deployment_id, 4, "slow", {})
    assert world.read(deployment_id)["model_version"] == "v1.0"


def test_what_somebody_went_back_to_is_gone_back_to_again(world: World, routing: Callable[..., Any]) -> None:
    deployment_id = world.deploy(routing("v1.0"))
    world.serving_reports.made_live(deployment_id, 1)
    world.revise(deployment_id, routing("v1.1"))
    world.serving_reports.made_live(deployment_id, 2)
    for number in (1, 2):  # there, and back again by its number
        world.restore(deployment_id, number)
        world.serving_reports.made_live(deployment_id, number + 2)
    world.revise(deployment_id, routing("v1.2"))
    world.serving_reports.made_live(deployment_id, 5)
    assert world.serving_reports.roll_back_to_former(deployment_id, 5, "slow", {})
    assert world.read(deployment_id)["model_version"] == "v1.1"


def test_what_is_gone_back_to_stays_however_often_the_rest_changes(
    world: World, routing: Callable[..., Any]
) -> None:
    deployment_id, second = world.deploy(routing("v1.0")), routing("v1.1")
    world.serving_reports.made_live(deployment_id, 1)
    for number in range(2, 2 * KEPT_REVISIONS):
        world.revise(deployment_id, second)
        world.serving_reports.made_live(deployment_id, number)
    stored = world.read(deployment_id)
    assert len(stored["revisions"]) == KEPT_REVISIONS
    assert world.serving_reports.roll_back_to_former(deployment_id, stored["revision"], "slow", {})
    assert world.read(deployment_id)["model_version"] == "v1.0"
    assert wrong_references(world.database) == []


def test_an_update_forgets_the_crashes_of_the_one_before(world: World, routing: Callable[..., Any]) -> None:
    deployment_id = world.deploy(routing("v1.0"))
    world.serving_reports.set_load_attempts(deployment_id, "here:1", 3)
    world.revise(deployment_id, routing("v1.1"))
    assert "load_attempts" not in world.read(deployment_id)


def test_concurrent_revisions_hold_what_they_name(world: World, routing: Callable[..., Any]) -> None:
    routings = [routing(f"v1.{number}") for number in range(4)]
    shadow = routings[0]["members"][0] | {"share": 0.1}
    deployment_id = world.deploy(routings[0])
    with ThreadPoolExecutor(4) as pool:
        made = list(
            pool.map(
                lambda number: world.revise(deployment_id, routings[number % 4] | {"shadow": shadow}),
                range(12),
            )
        )
    assert sorted(made) == list(range(2, 14))
    assert [each["revision"] for each in world.read(deployment_id)["revisions"]] == [9, 10, 11, 12, 13]
    assert wrong_references(world.database) == []


def test_a_server_is_told_the_keys_and_the_owners_tier(world: World, routing: Callable[..., Any]) -> None:
    world.database.users.insert_one({"_id": "rich", "tier": "pro"})
    rich, other = world.deploy(routing("v1.0"), user_id="rich"), world.deploy(routing("v1.0"))
    served = {each["_id"]: each for each in world.served_deployments.read()}
    assert served[rich]["owner_tier"] == "pro"
    assert served[other].get("owner_tier") is None
    assert [key["deployment_id"] for key in served[rich]["keys"]] == [rich]
    assert "owner" not in served[rich]
