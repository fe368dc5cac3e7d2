"""The command line after its first command, which imports more; commands are forked from its process."""

from typer.testing import CliRunner

from model_service.cli.app import app

CliRunner().invoke(app, ["version"])
