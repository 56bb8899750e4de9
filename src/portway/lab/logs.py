"""The supervisor's log: one JSON object a line, with the agent and host that it is about.

All agents share one process, so a record says who wrote it: a context variable that `agents` sets and that every task an agent
starts inherits. A failure's traceback is a field of its line; `jq -r .trace` prints it.
"""

from __future__ import annotations

import json
import logging
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TextIO

AGENT: ContextVar[str] = ContextVar("portway_agent", default="")
"""Who is at work in this task: "proxy@node-1"; empty for the supervisor itself."""


class JsonLines(logging.Formatter):
    """time (UTC), level, logger, agent if any, message, trace if any."""

    def format(self, record: logging.LogRecord) -> str:
        words = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "agent": AGENT.get(),
            "message": record.getMessage(),
            "trace": self.formatException(record.exc_info) if record.exc_info else "",
        }
        return json.dumps({k: v for k, v in words.items() if v}, ensure_ascii=False)


def log_to(stream: TextIO) -> None:
    """Everything from INFO on goes to `stream` as JSON lines."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
