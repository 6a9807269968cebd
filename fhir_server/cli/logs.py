"""How the processes log: text for people, JSON for machines; never a patient's data."""

import logging
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TextIO, cast

import msgspec
import structlog

from fhir_server.rest.request_id import LOGGER as REQUESTS
from fhir_server.rest.request_id import RequestLine
from fhir_server.settings import Settings


def configuration(settings: Settings) -> dict[str, Any]:
    """A `logging.config` dictionary.

    structlog's formatter renders every logger's lines and puts the request's id on them.
    The one line a request has a formatter of its own: it is on the path of every request.
    """
    is_json = settings.log_format == "json"
    level = settings.log_level.upper()
    renderer: Any = (
        structlog.processors.JSONRenderer(default=str)
        if is_json
        else structlog.dev.ConsoleRenderer(colors=False)
    )
    before = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(),
        _drop_color_message,
    ]
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": before,
                "processors": [
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    structlog.processors.format_exc_info,
                    renderer,
                ],
            },
            "request": {"()": JsonRequests if is_json else TextRequests},
        },
        "handlers": {
            "stderr": {"class": "logging.StreamHandler", "formatter": "line"},
            "requests": {"()": LineHandler, "formatter": "request"},
        },
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            "uvicorn": {"level": level},
            REQUESTS: {"handlers": ["requests"], "propagate": False, "level": level},
        },
    }


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes whole lines to stderr, which is line-buffered: nothing is left to be flushed."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.stream.write(self.format(record) + "\n")
        except Exception:  # as every handler does: a log that is full stops no request
            self.handleError(record)


class _Request(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line as JSON, with the names that structlog gives the other lines."""

    timestamp: str
    level: str
    logger: str
    event: str
    request_id: str
    interaction: str
    route: str
    method: str
    status: int
    duration_ms: float
    correlation_id: str | None = None


class JsonRequests(logging.Formatter):
    """Formats RequestRecords and nothing else."""

    def format(self, record: logging.LogRecord) -> str:
        line = cast("RequestLine", record.msg)
        return _encode(
            _Request(
                format_time(record.created),
                record.levelname.lower(),
                REQUESTS,
                "request",
                line.request_id,
                line.interaction,
                line.route,
                line.method,
                line.status,
                line.duration_ms,
                line.correlation_id,
            )
        ).decode()


class TextRequests(logging.Formatter):
    """Formats RequestRecords and nothing else."""

    def format(self, record: logging.LogRecord) -> str:
        line = cast("RequestLine", record.msg)
        correlation = f" correlation_id={line.correlation_id}" if line.correlation_id else ""
        return (
            f"{format_time(record.created)} [{record.levelname.lower():<9}] request "
            f"{line.method} {line.route} interaction={line.interaction} status={line.status} "
            f"duration_ms={line.duration_ms:.1f} request_id={line.request_id}{correlation}"
        )


_encode = msgspec.json.Encoder().encode


def format_time(seconds: float) -> str:
    """UTC, to the microsecond."""
    whole = int(seconds)
    return f"{_format_second(whole)}.{int((seconds - whole) * 1_000_000):06d}Z"


@lru_cache(maxsize=2)
def _format_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _drop_color_message(_logger: Any, _name: str, event: dict[str, Any]) -> dict[str, Any]:
    """The server adds its messages a second time, with escape sequences."""
    event.pop("color_message", None)
    return event
