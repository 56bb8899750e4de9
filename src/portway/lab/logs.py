"""The supervisor's log: one JSON object a line, with the agent and host that it is about.

All agents share one process, so a record says who wrote it: a context variable that `agents` sets and that every task an agent
starts inherits. A failure's traceback is a field of its line; `jq -r .trace` prints it.
"""

from __future__ import annotations

import json
import logging
import os
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

MOST_BYTES = 10_000_000
"""The log and the one before it take twice as much at the most."""

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


class Rotating(logging.StreamHandler[TextIO]):
    """Writes to `stream`, which is the file `path`, and begins that file anew when it is full; one older file stays beside it.

    The file is exchanged below the descriptor, so whatever else writes to standard output or error is in the new one as well."""

    def __init__(self, stream: TextIO, path: Path, most: int = MOST_BYTES) -> None:
        super().__init__(stream)
        self._path = path
        self._most = most

    def emit(self, record: logging.LogRecord) -> None:
        super().emit(record)
        try:
            if os.fstat(self.stream.fileno()).st_size >= self._most:
                self._rotate()
        except OSError:  # no space, or the folder is gone: better a log that is too large than none
            self.handleError(record)

    def _rotate(self) -> None:
        self._path.replace(self._path.with_name(f"{self._path.name}.1"))
        fresh = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            for fd in {self.stream.fileno(), *(n for n in (1, 2) if os.path.sameopenfile(n, self.stream.fileno()))}:
                os.dup2(fresh, fd, inheritable=fd in (1, 2))
        finally:
            os.close(fresh)


class Latest(logging.Handler):
    """Keeps what each agent last complained about: one that tries again by itself has no other words for `up` to show."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: dict[str, str] = {}

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self.said[AGENT.get()] = record.getMessage() + (f": {type(error).__name__}: {error}" if error else "")


LATEST = Latest()


def log_to(stream: TextIO, path: Path | None = None) -> None:
    """Everything from INFO on goes to `stream` as JSON lines; with its `path`, the file is kept from growing for ever."""
    handler = logging.StreamHandler(stream) if path is None else Rotating(stream, path)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler, LATEST], force=True)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
