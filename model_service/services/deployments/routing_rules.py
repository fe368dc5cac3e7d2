"""What a routing must fulfil as a whole."""

from collections.abc import Iterable

from model_service.errors import InvalidField
from model_service.storage.deployments.documents import Member, Routing
from model_service.storage.exports.documents import ExportJob, Interface

SPLIT, MODELS, ENSEMBLE = "split", "models", "ensemble"


def check_routing(routing: Routing) -> None:
    """Check the routing as a whole. Raises: InvalidField: the fields contradict each other."""
    if routing["mode"] == SPLIT:
        if not any(member["weight"] for member in routing["members"]):
            raise InvalidField.of("traffic", "at least one member needs a weight above 0")
    else:
        for part, value in (("sticky_header", routing["sticky_header"]), ("shadow", routing["shadow"])):
            if value is not None:
                message = (
                    f"only supported when requests are split between exports, not with {routing['mode']!r}"
                )
                raise InvalidField.of(part, message)
    rule = routing["rollback"]
    if rule is not None and rule["max_error_rate"] is None and rule["max_p95_ms"] is None:
        raise InvalidField.of("rollback", "needs max_error_rate, max_p95_ms or both")


def check_chain(members: list[Member], jobs: list[ExportJob]) -> None:
    """Check that each ensemble member's inputs are outputs of earlier members or of the request.

    Raises:
        InvalidField: no earlier member has such an output, or the member has no such input.
    """
    made: set[str] = set()
    unknown: list[str] = []  # members whose export does not list its outputs
    prefixes = tuple(f"{member['name']}." for member in members)
    for member, job in zip(members, jobs, strict=True):
        takes = _names(job.get("inputs"))
        for name, source in (member["inputs"] or {}).items():
            if takes and name not in takes:
                message = f"{member['name']!r} has the inputs {_listed(takes)}, not {name!r}"
                raise InvalidField.of("ensemble", message)
            known = source in made or source.startswith(tuple(unknown))
            if source.startswith(prefixes) and not known:
                message = (
                    f"{member['name']!r} takes {name!r} from {source!r}, but no earlier "
                    f"member has that output; the outputs so far: {_listed(made) or 'none'}"
                )
                raise InvalidField.of("ensemble", message)
        outputs = _names(job.get("outputs"))
        made |= {f"{member['name']}.{output}" for output in outputs}
        if not outputs:
            unknown.append(f"{member['name']}.")


def _names(specs: list[Interface] | None) -> set[str]:
    return {spec["name"] for spec in specs or []}


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names))
