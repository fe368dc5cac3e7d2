"""``model-service gate``, and ``model-service models gates | approve | approvals | withdraw-approval``."""

import re
from typing import Annotated, Any

import typer

from model_service.cli.common.options import ModelId
from model_service.cli.common.output import Json, client_of, emit
from model_service.cli.common.tables import Listing
from model_service.client import CheckedGate

app = typer.Typer(help="Gates: what a version must meet to get an alias.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="A model's name.")]
AliasName = Annotated[str, typer.Argument(metavar="ALIAS", help="The alias, for example production.")]
# accuracy>=0.95@digits-test/v1.0, of the version or, with a trailing @export, of the export
_METRIC = re.compile(
    r"(?P<metric>[^<>=@]+)(?P<bound>>=|<=)(?P<value>[^@]+)@(?P<dataset>[^@]+)(@(?P<of>export))?"
)


def gate(context: typer.Context, model_id: ModelId, alias: AliasName, as_json: Json = False) -> None:
    """Check a version against the gate of an alias, for CI: exit code 1 if a condition is missing.

    Prints each condition and what is stored about it. Nothing changes.
    """
    checked = client_of(context).check_gate(model_id, alias)
    rows = ((_mark(one.passed), one.condition, one.required, one.found) for one in checked.conditions)
    table = Listing(("", "condition", "required", "found"), rows)
    emit(dict(checked.raw), as_json, *([table] if checked.conditions else []), _verdict(checked))
    if not checked.passed:
        raise typer.Exit(1)


def _mark(passed: bool) -> str:
    return "passed" if passed else "missing"


def _verdict(checked: CheckedGate) -> str:
    which = f"{checked.name} {checked.version}"
    if not checked.gated:
        return f"{which}: the alias {checked.alias} has no gate, so nothing is required."
    missing = sum(not condition.passed for condition in checked.conditions)
    if missing:
        return f"{which} does not pass the gate of {checked.alias}: {missing} missing."
    return f"{which} passes the gate of {checked.alias}."


@app.command("set")
def set_gate(
    context: typer.Context,
    name: Name,
    alias: AliasName,
    verified: Annotated[
        str | None,
        typer.Option(
            "--verified-export", metavar="FORMAT", help="Require a verified export to FORMAT, or `any`."
        ),
    ] = None,
    validated: Annotated[
        bool, typer.Option("--validated", help="Require that its validation on a dataset passed.")
    ] = False,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RULE",
            help="A bound on a dataset, for example 'accuracy>=0.95@digits-test/v1.0'; with '@export' at its "
            "end, for the export. Repeat it for several.",
        ),
    ] = None,
    max_p99_ms: Annotated[
        float | None, typer.Option(metavar="MS", help="The longest p99 latency of the export.")
    ] = None,
    approvals: Annotated[
        int, typer.Option(metavar="N", min=0, help="The approvals of other users that are needed.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Set the conditions for an alias, and replace its earlier ones; for administrators."""
    export = None
    if verified is not None or validated:
        export = {"format": None if verified in (None, "any") else verified, "validated": validated}
    rules: dict[str, Any] = {
        "verified_export": export,
        "metrics": [_metric(rule) for rule in metric or ()],
        "max_p99_ms": max_p99_ms,
        "approvals": approvals,
    }
    stored = client_of(context).set_gate(name, alias, rules)
    emit(dict(stored.raw), as_json, f"{name}@{alias} needs {'; '.join(_sentences(stored.rules))}.")


def _metric(rule: str) -> dict[str, Any]:
    found = _METRIC.fullmatch(rule.strip())
    try:
        if found is None:
            raise ValueError
        value = float(found["value"])
    except ValueError:
        raise typer.BadParameter(
            f"{rule!r} is not of the form METRIC>=VALUE@DATASET, like accuracy>=0.95@digits-test/v1.0.",
            param_hint="--metric",
        ) from None
    bound = "min" if found["bound"] == ">=" else "max"
    return {
        "metric": found["metric"].strip(),
        "dataset_id": found["dataset"].strip(),
        bound: value,
        "of": found["of"] or "model",
    }


def _sentences(rules: dict[str, Any]) -> list[str]:
    said = []
    if export := rules["verified_export"]:
        validated = " that passed its validation" if export["validated"] else ""
        to = f" to {export['format']}" if export["format"] else ""
        said.append(f"a verified export{to}{validated}")
    for rule in rules["metrics"]:
        bound = f"≥ {rule['min']:g}" if rule["min"] is not None else f"≤ {rule['max']:g}"
        said.append(f"{rule['metric']} {bound} on {rule['dataset']} ({rule['of']})")
    if rules["max_p99_ms"] is not None:
        said.append(f"p99 ≤ {rules['max_p99_ms']:g} ms")
    if rules["approvals"]:
        said.append(f"{rules['approvals']} approvals")
    return said


@app.command("list")
def list_gates(context: typer.Context, name: Name, as_json: Json = False) -> None:
    """List the aliases of a name that have a gate, with their conditions."""
    found = client_of(context).list_gates(name)
    rows = ((each.alias, "; ".join(_sentences(each.rules)), each.set_by) for each in found)
    shown = Listing(("alias", "needs", "set by"), rows, spare=("set by",))
    emit({"name": name, "gates": [dict(each.raw) for each in found]}, as_json, shown)


@app.command()
def remove(context: typer.Context, name: Name, alias: AliasName, as_json: Json = False) -> None:
    """Remove the gate of an alias; for administrators."""
    removed = client_of(context).delete_gate(name, alias)
    emit(removed, as_json, f"{name}@{alias} has no gate any more.")


Comment = Annotated[
    str | None, typer.Option(metavar="TEXT", help="The reason, for the history of the alias.")
]


def approve(
    context: typer.Context,
    model_id: ModelId,
    alias: AliasName,
    comment: Comment = None,
    as_json: Json = False,
) -> None:
    """Approve a version for an alias, as the user who is signed in."""
    approval = client_of(context).approve(model_id, alias, comment=comment)
    emit(
        dict(approval.raw),
        as_json,
        f"{approval.approved_by} approves {approval.name} {approval.version} for {approval.alias}.",
    )


def approvals(
    context: typer.Context,
    model_id: ModelId,
    alias: Annotated[str | None, typer.Option(metavar="ALIAS", help="Only for this alias.")] = None,
    as_json: Json = False,
) -> None:
    """List the approvals of a version, oldest first."""
    found = client_of(context).list_approvals(model_id, alias)
    rows = (
        (each.alias, each.approved_by, f"{each.created_at:%Y-%m-%d %H:%M}", each.comment or "")
        for each in found
    )
    shown = Listing(("alias", "approved by", "at (UTC)", "comment"), rows, spare=("comment",))
    emit({"approvals": [dict(each.raw) for each in found]}, as_json, shown)


def withdraw_approval(
    context: typer.Context, model_id: ModelId, alias: AliasName, as_json: Json = False
) -> None:
    """Withdraw your approval of a version for an alias."""
    withdrawn = client_of(context).withdraw_approval(model_id, alias)
    emit(withdrawn, as_json, f"You no longer approve {model_id} for {alias}.")
