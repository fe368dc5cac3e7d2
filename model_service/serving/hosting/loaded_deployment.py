"""A deployment in memory, with everything that a request needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from model_service.serving.accounting.keys import Keys
from model_service.serving.engine.engine import Batching, Engine
from model_service.serving.engine.kills import Kills
from model_service.serving.hosting.ensemble import Ensemble
from model_service.serving.hosting.guard import Guard
from model_service.serving.hosting.member import Loaded, Member, Model
from model_service.serving.hosting.routing import Route
from model_service.serving.hosting.shadow import Shadow
from model_service.serving.protocols.oip.documents import Statistics, Timing
from model_service.states import Tier
from model_service.storage.common.documents import changed
from model_service.storage.deployments.documents import Member as MemberDocument
from model_service.storage.deployments.documents import Routing, ServedDeployment


@dataclass
class Flight:
    """Requests of a deployment that have arrived in this process and are not answered.

    ``held_bytes``: the size of their bodies, including parts that have not arrived, and of the decoded data.
    """

    requests: int = 0
    held_bytes: int = 0


@dataclass(frozen=True)
class LoadedDeployment:
    """One revision of a deployment.

    Only ``flight`` and the records of ``guard`` and ``kills`` change.
    """

    id: str
    name: str
    revision: int
    route: Route
    shadow: Shadow | None
    guard: Guard | None
    batching: Batching
    max_concurrency: int
    timeout_s: float
    kills: Kills
    owner: str
    tier: Tier | None
    keys: Keys
    models: tuple[Model, ...]
    loaded: Mapping[str, Loaded]  # by package
    flight: Flight = field(default_factory=Flight)

    def statistics(self, name: str) -> Iterator[Statistics]:
        """Yield the statistics of every model since it was loaded, as in the Open Inference Protocol."""
        for model in self.models:
            runs = model.runs
            yield Statistics(
                name,
                model.name,
                last_inference_ms=round(runs.last_at * 1000),
                inferences=runs.rows,
                executions=runs.count,
                success=Timing(runs.requests, round(runs.seconds * 1e9)),
                fail=Timing(runs.failures, 0),
                compute_infer=Timing(runs.count, round(runs.seconds * 1e9)),
            )


def package_id(member: MemberDocument) -> str:
    return str(member["package"]["checksum"])


def to_serve(deployment: ServedDeployment) -> ServedDeployment:
    """Return the deployment to serve: with its live revision, if the newest one has failed."""
    live, newest = deployment["live_revision"], deployment["revision"]
    revisions = {entry["revision"]: entry for entry in deployment["revisions"]}
    if live is None or not revisions[newest]["failed"] or live not in revisions:
        return deployment
    entry = revisions[live]
    served = {"revision": entry["revision"], "routing": entry["routing"], "config": entry["config"]}
    return changed(deployment, served)


def served_members(deployment: ServedDeployment) -> list[MemberDocument]:
    """Return the members of the present revision, and its shadow."""
    routing = deployment["routing"]
    return [*routing["members"], *filter(None, [routing.get("shadow")])]


def build(deployment: ServedDeployment, loaded: Mapping[str, Loaded], engine: Engine) -> LoadedDeployment:
    """Build a deployment. Raises LoadFailed if the members of an ensemble do not fit together."""
    routing, config = deployment["routing"], deployment["config"]
    batching = config["batching"]
    limits = Batching(batching["max_batch_size"], batching["max_delay_ms"] / 1000)

    timeout_s, kills = config["timeout_ms"] / 1000, Kills()

    def model(member: MemberDocument) -> Model:
        package = loaded[package_id(member)]
        return Model(member, package, engine, limits, timeout_s=timeout_s, kills=kills)

    documents: list[MemberDocument] = routing["members"]
    models = [model(member) for member in documents]
    shadow = routing.get("shadow")
    return LoadedDeployment(
        id=deployment["_id"],
        name=deployment["name"],
        revision=deployment["revision"],
        route=_route(routing, documents, models, deployment["name"]),
        shadow=Shadow(model(shadow), shadow["share"]) if shadow else None,
        guard=Guard.of(deployment),
        batching=limits,
        max_concurrency=config["max_concurrency"],
        timeout_s=timeout_s,
        kills=kills,
        owner=deployment.get("user_id") or "",
        tier=deployment.get("owner_tier"),
        keys=Keys(deployment["keys"]),
        models=tuple(models),
        loaded=loaded,
    )


def _route(routing: Routing, documents: list[MemberDocument], models: list[Model], name: str) -> Route:
    members: list[Member] = list(models)
    match routing["mode"]:
        case "ensemble":
            sources = [document.get("inputs") for document in documents]
            return Route([Ensemble(name, list(zip(models, sources, strict=True)))])
        case "models":
            return Route(members)
    weights = [document["weight"] for document in documents]
    return Route(members, weights, routing.get("sticky_header"))
