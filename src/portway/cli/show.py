"""How the command line prints: aligned tables for people, JSON for programs, errors on standard error.

Tables are plain text, the same in a terminal, a pipe and a CI log. Pure but for the two functions that write.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from typing import Any


class Output(StrEnum):
    TABLE = "table"
    JSON = "json"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as their widest cell, three blanks between them; no blanks at the end of a line."""
    lines = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    return "\n".join("   ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def status(found: Mapping[str, Any]) -> str:
    """The cluster as a person wants to see it."""
    agents = [(a["name"], a["host"] or "-", a["state"], str(a["restarts"]), a["error"]) for a in found["agents"]]
    head = f"{found['name']} is {'ready' if found['ready'] else 'NOT ready'}: {found['server']}"
    parts = [
        head,
        f"kubeconfig: {found['kubeconfig']}",
        f"log: {found['log']}",
        "",
        hosts(found["hosts"], ("HOST", "name"), ("ROLE", "role"), ("STATE", "state")),
        "",
        table(("AGENT", "HOST", "STATE", "RESTARTS", "LAST ERROR"), agents),
    ]
    if found["routes"]:
        routes = [(r["host"], r["destination"], r["via"]) for r in found["routes"]]
        parts += ["", table(("ROUTES OF", "DESTINATION", "VIA"), routes)]
    if found["published"]:
        parts += ["", published(found["published"])]
    return "\n".join(parts)


def hosts(rows: Sequence[Mapping[str, Any]], *columns: tuple[str, str]) -> str:
    """The columns (title, field), the zone where there is one, and the addresses."""
    shown = [*columns, ("ZONE", "zone")] if any(row["zone"] for row in rows) else list(columns)
    cells = [(*(row[key] or "-" for _, key in shown), ", ".join(row["addresses"])) for row in rows]
    return table((*(title for title, _ in shown), "ADDRESSES"), cells)


def published(rows: Iterable[Mapping[str, Any]]) -> str:
    cells = [
        (
            f"127.0.0.1:{p['port']}/{p['protocol']}",
            f"{p['address']}:{p['target']}",
            "listening" if p["listening"] else "not listening",
            str(p["connections"]),
            p["error"],
        )
        for p in rows
    ]
    return table(("PUBLISHED", "LEADS TO", "STATE", "OPEN", "LAST ERROR"), cells)


def as_json(value: object) -> str:
    return json.dumps(value, indent=2)


def say(text: str) -> None:
    """A line of the result."""
    print(text, flush=True)


def complain(text: str) -> None:
    """A line for the person, beside the result. Nobody may be reading it (`2>&1 | head`): that is no reason to stop."""
    with suppress(BrokenPipeError):
        print(text, file=sys.stderr, flush=True)
