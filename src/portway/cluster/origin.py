"""Where something comes from: the object and the field in it that asked for it.

Intents carry an Origin into whatever is compiled from them, so that a rule's comment, a log line and an explanation can
name the manifest's line that a person would have to change.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Origin:
    """`Origin("Service", "shop/web", "spec.ports[0]")`; a field path as Kubernetes' own error messages write it."""

    kind: str
    name: str
    field: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}{f' {self.field}' if self.field else ''}"
