"""Options of several commands on deployments: which deployment, its definition, waiting for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from model_service import client as service
from model_service.cli.common.options import given, json_file, json_object
from model_service.cli.common.output import waiting

Deployment = Annotated[
    str, typer.Argument(metavar="DEPLOYMENT", help="The deployment's id, or its name if it is unique.")
]
Clear = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PART", help="Remove shadow, rollback, sticky-header or description; repeat it for several."
    ),
]
Revision = Annotated[
    int | None,
    typer.Option(metavar="N", help="Change it only if this is still its revision, as `get` shows it."),
]
Keep = Annotated[
    bool,
    typer.Option("--keep-key", help="Store the key on this machine for `predict`, readable only by you."),
]

_CLEARABLE = frozenset({"shadow", "rollback", "sticky_header", "description"})


@dataclass(frozen=True)
class Serving:
    """Options for the exports and the configuration of a deployment."""

    description: Annotated[
        str | None, typer.Option(metavar="TEXT", help="A description of the deployment.")
    ] = None
    config: Annotated[
        str | None,
        typer.Option(metavar="JSON", help='A JSON object, or @FILE: {"batching": {"max_batch_size": 8}}.'),
    ] = None
    traffic: Annotated[
        list[str] | None,
        typer.Option(
            metavar="JOB_ID=WEIGHT",
            help="An export and its share of the requests; repeat it for each export.",
        ),
    ] = None
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="NAME=JOB_ID",
            help="One of several models, which requests select by name; repeat it.",
        ),
    ] = None
    ensemble: Annotated[
        list[str] | None,
        typer.Option(
            metavar="JOB_ID",
            help="An export of an ensemble, in order; repeat it. Or @FILE: a JSON list of the members with "
            "their names and inputs.",
        ),
    ] = None
    sticky_header: Annotated[
        str | None,
        typer.Option(
            metavar="HEADER", help="Requests with the same value of this header go to the same export."
        ),
    ] = None
    shadow: Annotated[
        str | None,
        typer.Option(
            metavar="JOB_ID=SHARE", help="An export that receives copies of a share (0 to 1) of the requests."
        ),
    ] = None
    rollback: Annotated[
        str | None,
        typer.Option(
            metavar="JSON", help='When to roll back automatically: {"max_error_rate": 0.05}, or @FILE.'
        ),
    ] = None
    unverified: Annotated[
        bool,
        typer.Option(
            "--override-verification", help="Deploy an export that was not verified; administrators only."
        ),
    ] = False

    def fields(self) -> dict[str, Any]:
        """Return the options in the form of the service.

        Raises:
            typer.BadParameter: an invalid pair, or invalid JSON.
        """
        traffic = [
            {"export_job_id": job, "weight": _number(int, weight, "--traffic")}
            for job, weight in (_pair(each, "--traffic") for each in self.traffic or ())
        ]
        shadow = None
        if self.shadow is not None:
            job, share = _pair(self.shadow, "--shadow")
            shadow = {"export_job_id": job, "share": _number(float, share, "--shadow")}
        return given(
            {
                "description": self.description,
                "config": json_object(self.config),
                "traffic": traffic or None,
                "models": dict(_pair(each, "--model") for each in self.models or ()) or None,
                "ensemble": _ensemble(self.ensemble) if self.ensemble else None,
                "sticky_header": self.sticky_header or None,
                "shadow": shadow,
                "rollback": json_object(self.rollback) or None,
                "override_verification": self.unverified or None,
            }
        )


@dataclass(frozen=True)
class Package:
    """Options for the type of a deployment, and for a package instead of an endpoint."""

    kind: Annotated[
        str | None,
        typer.Option(
            "--type",
            metavar="TYPE",
            help="download, edge_package or container: a package instead of an endpoint.",
        ),
    ] = None
    target: Annotated[
        str | None,
        typer.Option(
            metavar="PLATFORM", help="The platform of an edge package: ios, android, both or linux-arm64."
        ),
    ] = None
    exports: Annotated[
        list[str] | None,
        typer.Option(
            "--export-for",
            metavar="PLATFORM=JOB_ID",
            help="The export of one platform of an edge package for both; repeat it.",
        ),
    ] = None
    image: Annotated[
        str | None,
        typer.Option(metavar="NAME[:TAG]", help="The name of the image that a container package builds."),
    ] = None
    server: Annotated[
        str | None,
        typer.Option(metavar="SERVER", help="The server in a container: model-service or triton."),
    ] = None

    def added_to(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Return the fields with these options, in the form of the service.

        Raises:
            typer.BadParameter: an invalid pair.
        """
        name, tag = self.image, None
        if self.image is not None and ":" in self.image.rpartition("/")[2]:
            name, _, tag = self.image.rpartition(":")
        config = given(
            {
                "target_platform": self.target,
                "image_name": name,
                "image_tag": tag,
                "inference_framework": self.server,
            }
        )
        exports = dict(_pair(each, "--export-for") for each in self.exports or ())
        more = given({"deployment_type": self.kind, "export_job_ids": exports or None})
        if config:
            more["config"] = {**(fields.get("config") or {}), **config}
        return {**fields, **more}


@dataclass(frozen=True)
class Waiting:
    """Options for waiting until a change is served."""

    wait: Annotated[bool, typer.Option("--wait", help="Wait until the servers serve it.")] = False
    timeout: Annotated[float, typer.Option(metavar="SECONDS", min=0, help="The longest time to wait.")] = 120

    def for_it(
        self, client: service.ModelServiceClient, deployment: service.Deployment
    ) -> service.Deployment:
        """Wait if requested, and return the deployment's state."""
        if not self.wait:
            return deployment
        typer.echo(f"Deployment {deployment.id} is starting. Ctrl-C only stops waiting for it.", err=True)
        back = f"Show it with `model-service deployments get {deployment.id}`."
        with waiting(f"Deployment {deployment.id}", back):
            return client.wait_for_deployment(deployment, timeout_s=self.timeout)


def cleared(parts: Sequence[str] | None) -> dict[str, None]:
    """Return the fields to clear, in the service's form. Raises typer.BadParameter for a required field."""
    fields = [part.replace("-", "_") for part in parts or ()]
    if not _CLEARABLE.issuperset(fields):
        raise typer.BadParameter(f"one of {', '.join(sorted(_CLEARABLE))}", param_hint="--clear")
    return dict.fromkeys(fields)


def _ensemble(words: Sequence[str]) -> list[Any]:
    """Return the members of an ensemble, from their exports' ids or from a file."""
    if not any(word.startswith("@") for word in words):
        return [{"export_job_id": job} for job in words]
    if len(words) > 1:
        raise typer.BadParameter("give only @FILE, with all members", param_hint="--ensemble")
    members = json_file(words[0][1:])
    if not isinstance(members, list) or not members:
        example = '[{"export_job_id": "…", "name": "crop", "inputs": {"x": "image"}}]'
        raise typer.BadParameter(f"not a JSON list like {example}", param_hint="--ensemble")
    return members


def _pair(given: str, option: str) -> tuple[str, str]:
    first, equals, second = given.partition("=")
    if not (first and equals and second):
        raise typer.BadParameter(f"{given!r} is not a pair like A=B", param_hint=option)
    return first, second


def _number(kind: type[int] | type[float], text: str, option: str) -> float:
    try:
        return kind(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a number", param_hint=option) from None
