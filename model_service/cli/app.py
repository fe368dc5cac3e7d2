"""The root command: its options, its groups, and the one place where an error becomes a line.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
"""

import sys
import traceback
from pathlib import Path
from typing import Annotated, NoReturn

import typer

import model_service
from model_service.cli import deployments, exports, models
from model_service.cli.output import Json, emit, printable
from model_service.cli.predict import predict
from model_service.cli.up import up
from model_service.client import ClientError, ModelServiceClient

# What to do, where the service's own message cannot know which option of ours does it.
_ADVICE = {
    "connection_failed": "Start one with `model-service up`, or name it with --url or MODEL_SERVICE_URL.",
    "unauthorized": "Give the key of the service with --api-key, the key of a deployment with --key.",
    "wait_timed_out": "Wait on with the command `wait`, or look with `get`.",
}

app = typer.Typer(
    name="model-service",
    help="Register models, export them, prove the result and serve it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(models.app, name="models")
app.add_typer(exports.app, name="exports")
app.add_typer(deployments.app, name="deployments")
app.command()(predict)
app.command()(up)


@app.callback()
def connect(
    context: typer.Context,
    url: Annotated[
        str, typer.Option(envvar="MODEL_SERVICE_URL", help="Where the service is.")
    ] = "http://127.0.0.1:8084",
    api_key: Annotated[
        str | None,
        typer.Option(envvar="MODEL_SERVICE_API_KEY", help="The service's key, if it asks for one."),
    ] = None,
) -> None:
    context.obj = context.with_resource(ModelServiceClient(url, api_key=api_key))


@app.command()
def version(as_json: Json = False) -> None:
    """The version of this program."""
    emit({"version": model_service.__version__}, as_json, f"model-service {model_service.__version__}")


def main() -> NoReturn:
    try:
        app()
    except ClientError as exc:
        _fail(exc.code, _explain(exc))
    except OSError as exc:
        _fail("file_error", str(exc))
    except Exception as exc:
        _fail("bug", _report(exc))
    sys.exit(0)


def _explain(exc: ClientError) -> str:
    parts = [exc.message]
    for field in exc.details.get("fields", []):
        if isinstance(field, dict) and str(field.get("field")) not in exc.message:
            parts.append(f"{field.get('field')}: {field.get('message')}.")
    if "allowed" in exc.details:
        parts.append(f"Allowed: {exc.details['allowed']}.")
    if exc.code in _ADVICE:
        parts.append(_ADVICE[exc.code])
    if exc.request_id and exc.status is not None and exc.status >= 500:
        parts.append(f"(request {exc.request_id})")
    return " ".join(parts)


def _report(exc: Exception) -> str:
    frame = traceback.extract_tb(exc.__traceback__)[-1]
    place = f"{Path(frame.filename).name}:{frame.lineno}"
    return f"{type(exc).__name__} in {place}: {exc}. This is a fault of model-service: please report it."


def _fail(code: str, message: str) -> NoReturn:
    line = printable(" ".join(message.split()))
    sys.stderr.write(f"error: {printable(code)}: {line}\n")
    sys.exit(1)
