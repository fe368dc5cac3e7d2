"""The commands. ``main`` is the console script ``model-service``."""

from model_service.cli.app import main

__all__ = ["main"]
