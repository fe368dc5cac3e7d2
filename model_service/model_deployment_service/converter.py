"""Runs a command of ``exporters`` on untrusted files, in a sandboxed child process."""

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import structlog

from model_service.config import Settings
from model_service.jobs.command import Command
from model_service.jobs.converter import Child, Converter


@contextmanager
def sandboxed(settings: Settings, command: Command) -> Iterator[Child]:
    """Yield a child for one request, with an empty workspace that ends with it.

    In a program that has not configured structlog, it logs warnings alone.
    """
    if not structlog.is_configured():
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with closing(Converter(settings)) as converter, closing(converter.start(command)) as child:
        yield child


def ask(child: Child, settings: Settings, request: dict[str, Any]) -> dict[str, Any]:
    """Send the request, in the form of ``exporters.request.ExportRequest``, and return the result.

    Raises:
        ConversionError: the child reported a failure, crashed, or exceeded a limit.
        ConverterBroken: it did not start.
    """
    return child.convert(
        request,
        timeout_s=settings.export_timeout_s,
        on_progress=lambda event: None,
        on_step=lambda event: None,
        abandoned=lambda: False,
    )
