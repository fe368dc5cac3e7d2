"""Structured logs on stderr: one JSON object a line, or text for people on a terminal.

Messages of libraries (rq, granian, the MongoDB driver) have the same form.
"""

import json
import logging
import re
import sys
from typing import Any

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from model_service.config import Settings

# Log level of libraries, whose lower levels do not help an operator.
_LIBRARIES = "WARNING"
# Lines contain text from clients, whose control characters a terminal would interpret.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def configure_logging(settings: Settings) -> None:
    """Configure logging for the whole process. Can be called again, for example in a forked process."""
    as_text = settings.logs_as_text()
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    text = structlog.dev.ConsoleRenderer(
        colors=False, pad_event_to=24, exception_formatter=structlog.dev.plain_traceback
    )

    def console(logger: WrappedLogger, name: str, event: EventDict) -> str:
        return _CONTROL.sub("", text(logger, name, event))

    structlog.configure(
        processors=[*shared, console if as_text else structlog.processors.JSONRenderer(_dump)],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[settings.log_level]
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr)
        if as_text
        else structlog.BytesLoggerFactory(sys.stderr.buffer),
        cache_logger_on_first_use=True,
    )
    _configure_libraries(
        settings, shared, console if as_text else structlog.processors.JSONRenderer(_dump_text)
    )


def _configure_libraries(settings: Settings, shared: list[Processor], renderer: Processor) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared, _unpack_driver_message],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    for other in root.handlers[:]:
        if isinstance(other.formatter, structlog.stdlib.ProcessorFormatter):
            root.removeHandler(other)
    root.addHandler(handler)
    root.setLevel(_LIBRARIES)
    logging.getLogger("pymongo").setLevel(settings.mongodb_log_level)


def _unpack_driver_message(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Convert the MongoDB driver's JSON messages to fields."""
    if str(event.get("logger", "")).startswith("pymongo.") and str(event["event"]).startswith("{"):
        try:
            fields: dict[str, Any] = json.loads(str(event["event"]))
        except ValueError:
            return event
        event["event"] = fields.pop("message", "pymongo")
        event["mongodb"] = fields
    return event


def _dump(value: Any, **_: Any) -> bytes:
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:  # an integer above 64 bits, or a lone surrogate
        return json.dumps(value, default=str).encode()


def _dump_text(value: Any, **_: Any) -> str:
    return _dump(value).decode()
