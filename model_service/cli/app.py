"""The root command: its options, its groups, and the output of errors as one line.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
"""

import logging
import sys
import traceback
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

import model_service
from model_service.cli.access import access, keys, users
from model_service.cli.access.session_store import stored_token
from model_service.cli.common.output import Json, emit, file_problem
from model_service.cli.common.tables import printable
from model_service.cli.datasets import datasets
from model_service.cli.deployments import deployments
from model_service.cli.deployments import downloads as deployment_downloads
from model_service.cli.deployments import keys as deployment_keys
from model_service.cli.deployments import records as deployment_records
from model_service.cli.deployments import watch as deployment_watch
from model_service.cli.evaluations import evaluations
from model_service.cli.exports import exports
from model_service.cli.files import files
from model_service.cli.files.uploading import in_commands
from model_service.cli.gates import gates
from model_service.cli.inference.predict import predict
from model_service.cli.models import aliases, lineage, models, registry, search, trash
from model_service.cli.operations import containers, operate
from model_service.cli.operations.doctor import doctor
from model_service.cli.operations.up import up
from model_service.cli.training import training
from model_service.cli.webhooks import webhooks
from model_service.client import (
    ClientError,
    ConnectionFailed,
    JobFailed,
    ModelServiceClient,
    TLSFailed,
    Unauthorized,
)

# The command also waits for an hourly limit of the service: it prints that, and Ctrl-C ends it.
_LONGEST_WAIT_S = 2 * 3600.0
_CONNECTION = ("--url", "--api-key")


class _Root(TyperGroup):
    """Accepts the connection's options after the command too, where most people write them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        connection: list[str] = []
        rest: list[str] = []
        words = iter(args)
        for word in words:
            if word == "--":
                rest += [word, *words]
            elif word in _CONNECTION:
                connection += [word, *islice(words, 1)]
            elif word.startswith(tuple(f"{option}=" for option in _CONNECTION)):
                connection.append(word)
            else:
                rest.append(word)
        return super().parse_args(ctx, connection + rest)


app = typer.Typer(
    name="model-service",
    cls=_Root,
    help="Register models, export them to other formats, and serve the verified exports.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for name in ("list", "search"):  # one command with two names, as in the API
    models.app.command(name)(search.find)
models.app.command()(trash.deleted)
models.app.command()(trash.restore)
models.app.command()(lineage.lineage)
models.app.command()(lineage.compare)
models.app.add_typer(files.app, name="files")
models.app.add_typer(aliases.app, name="alias")
models.app.add_typer(gates.app, name="gates")
models.app.command()(gates.approve)
models.app.command()(gates.approvals)
models.app.command()(gates.withdraw_approval)
app.add_typer(models.app, name="models")
app.command()(search.statistics)
app.add_typer(datasets.app, name="datasets")
app.add_typer(training.app, name="training")
app.add_typer(exports.app, name="exports")
app.command()(evaluations.evaluate)
app.add_typer(evaluations.app, name="evaluations")
for shown in (*deployment_records.COMMANDS, deployment_watch.watch, deployment_downloads.download):
    deployments.app.command()(shown)
deployments.app.add_typer(deployment_keys.app, name="keys")
app.add_typer(deployments.app, name="deployments")
app.command()(gates.gate)
app.command()(predict)
app.add_typer(registry.app, name="registry")
app.command()(up)
app.command()(access.login)
app.command()(access.logout)
app.command()(access.whoami)
app.command()(access.namespaces)
app.add_typer(users.app, name="users")
app.add_typer(keys.app, name="keys")
app.add_typer(webhooks.app, name="webhooks")
app.command()(access.audit)
for command in (operate.backup, operate.restore, operate.verify, operate.cleanup):
    app.command()(command)
app.command()(containers.health)
app.command()(containers.setup_database)
app.command()(doctor)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"model-service {model_service.__version__}")
        raise typer.Exit


@app.callback()
def connect(
    context: typer.Context,
    url: Annotated[
        str, typer.Option(metavar="URL", envvar="MODEL_SERVICE_URL", help="The URL of the service.")
    ] = "http://127.0.0.1:8084",
    api_key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            envvar="MODEL_SERVICE_API_KEY",
            help="An API key, if the service requires one; by default the session of `login`.",
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    context.obj = context.with_resource(
        ModelServiceClient(url, api_key=api_key or stored_token(url), longest_wait=_LONGEST_WAIT_S)
    )


@app.command()
def version(as_json: Json = False) -> None:
    """The version of this program."""
    emit({"version": model_service.__version__}, as_json, f"model-service {model_service.__version__}")


class _Notices(logging.Handler):
    """Print the client's messages while it waits on stderr, above the progress bars."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(f"{printable(record.getMessage())}\n")
        sys.stderr.flush()


def main() -> NoReturn:
    notices = logging.getLogger("model_service.client")
    notices.addHandler(_Notices())
    notices.setLevel(logging.INFO)
    notices.propagate = False
    try:
        app()
    except ClientError as exc:
        _fail(exc.code, _explain(exc))
    except OSError as exc:
        _fail("file_error", file_problem(exc))
    except Exception as exc:
        _fail("bug", _report(exc))
    sys.exit(0)


def _explain(exc: ClientError) -> str:
    refused = exc.code in {"would_replace", "confirmation_required"}
    parts = [in_commands(exc.message) if refused else exc.message]
    for field in exc.details.get("fields", []):
        if isinstance(field, dict) and str(field.get("field")) not in exc.message:
            parts.append(f"{field.get('field')}: {field.get('message')}.")
    parts += _allowed(exc)
    parts += getattr(exc, "__notes__", None) or _advice(exc)
    if exc.request_id and exc.status is not None and exc.status >= 500:
        parts.append(f"(request {exc.request_id})")
    return " ".join(parts)


def _allowed(exc: ClientError) -> list[str]:
    """Return the allowed values, unless the message has them, as it does for numbers and nested values."""
    allowed = exc.details.get("allowed")
    if not isinstance(allowed, list) or not all(isinstance(name, str) for name in allowed):
        return []
    missing = [name for name in allowed if name not in exc.message]
    return [f"Allowed: {', '.join(allowed)}."] if missing else []


def _advice(exc: ClientError) -> list[str]:
    """Return a hint with the command's option, which the service's own message cannot know."""
    if isinstance(exc, ConnectionFailed) and not isinstance(exc, TLSFailed):
        return ["Start the service with `model-service up`, or give its URL with --url or MODEL_SERVICE_URL."]
    if exc.code == "unsupported_option":
        return _option_advice(exc)
    if isinstance(exc, Unauthorized):
        sign_in = "sign in with `model-service login USER`"
        if exc.key_given:
            return [f"Check the key in --api-key or MODEL_SERVICE_API_KEY, or {sign_in} again."]
        return [f"Give a key with --api-key KEY or MODEL_SERVICE_API_KEY, or {sign_in}."]
    return []


def _option_advice(exc: ClientError) -> list[str]:
    """Return how a format's options are given here. Unlike a request's, a job's error has no details."""
    if isinstance(exc, JobFailed) or "option" in exc.details:
        if exc.details.get("option") in {"export_format", "framework", "format"}:
            return []
        again = " and export it again" if isinstance(exc, JobFailed) else ""
        return [f"Give options of the format with `--option NAME=JSON`{again}."]
    return []


def _report(exc: Exception) -> str:
    frame = traceback.extract_tb(exc.__traceback__)[-1]
    place = f"{Path(frame.filename).name}:{frame.lineno}"
    return f"{type(exc).__name__} in {place}: {exc}. This is a bug in model-service: please report it."


def _fail(code: str, message: str) -> NoReturn:
    line = printable(" ".join(message.split()))
    sys.stderr.write(f"error: {printable(code)}: {line}\n")
    sys.exit(1)
