"""One log: structlog and the standard library through the same handler, JSON in production."""

from __future__ import annotations

import logging
import sys

import structlog

from core.config import Settings

#: Libraries that write down addresses and signatures, which are secrets here, and how much they may say.
DISCREET = {
    "botocore": logging.INFO,
    "urllib3": logging.INFO,
    "httpx2": logging.WARNING,
    "httpcore2": logging.INFO,
}


def configure(settings: Settings, service: str) -> None:
    """Send every log line of this process to stderr, each with `service` and the bound ids."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if settings.log_format == "console"
        else structlog.processors.JSONRenderer()
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _on_one_line, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level.upper())
    for name, level in DISCREET.items():
        logging.getLogger(name).setLevel(max(level, root.level))
    structlog.contextvars.bind_contextvars(service=service)


def _on_one_line(
    _: structlog.typing.WrappedLogger, __: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """The sentence may quote a stranger, who must not write lines of the log or steer a terminal.

    The other values are quoted by the renderers themselves.
    """
    said = str(event["event"])
    if not said.isprintable():
        shown = (sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in said)
        event["event"] = "".join(shown)
    return event


def get(name: str) -> structlog.stdlib.BoundLogger:
    """A logger: a sentence for people, `action=` and ids for machines."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return logger
