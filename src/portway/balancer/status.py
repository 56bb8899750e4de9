"""What a Service's status should say: its address, and a condition with the reason for every "no". Pure.

`run` compares this with what is there and writes the difference.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from portway.balancer import assign
from portway.balancer.assign import Answer, Assigned
from portway.balancer.reasons import READY, Reason, Refused
from portway.objects.core import Service
from portway.objects.meta import Condition

CONDITION = "LoadBalancerReady"


@dataclass(frozen=True, slots=True)
class Wanted:
    """`ingress` None: the addresses in the status are not ours to touch. `reason` empty: no condition of ours."""

    ingress: tuple[str, ...] | None
    ready: bool = False
    reason: str = ""
    message: str = ""


def wanted(service: Service, answer: Answer | None, obstacle: Refused | None) -> Wanted:
    """`answer` is what was assigned, `obstacle` why nobody answers there."""
    if not assign.is_balanced(service):
        return Wanted(())
    if not assign.is_ours(service):
        words = f"spec.loadBalancerClass is {service.spec.load_balancer_class}: {assign.CLASS} leaves it alone"
        return Wanted(None, False, Reason.OTHER_CLASS, words)
    if answer is None or isinstance(answer, Refused):
        refused = answer or Refused(Reason.NO_ANNOUNCER)
        return Wanted((), False, refused.reason, str(refused))
    return _assigned(answer, obstacle)


def _assigned(answer: Assigned, obstacle: Refused | None) -> Wanted:
    address = str(answer.address)
    if obstacle is not None:
        return Wanted((address,), False, obstacle.reason, f"{address}: {obstacle}")
    return Wanted((address,), True, READY, f"{address} of pool {answer.pool} answers")


def change(service: Service, want: Wanted, now: str) -> dict[str, Any] | None:
    """The status to merge into the Service's; None when nothing differs. `now` is an RFC 3339 time."""
    body: dict[str, Any] = {}
    ingress = service.status.load_balancer.ingress or ()
    if want.ingress is not None and tuple(i.ip or i.hostname for i in ingress) != want.ingress:
        body["loadBalancer"] = {"ingress": [{"ip": ip, "ipMode": "VIP"} for ip in want.ingress] or None}
    conditions = _conditions(service.status.conditions or (), want, now)
    if conditions is not None:
        body["conditions"] = conditions
    return body or None


def ours(conditions: Iterable[Condition] | None) -> Condition | None:
    return next((c for c in conditions or () if c.type == CONDITION), None)


def _conditions(before: Iterable[Condition], want: Wanted, now: str) -> list[dict[str, Any]] | None:
    """All conditions with ours as it should be; None when it is."""
    known, others = ours(before), [c for c in before if c.type != CONDITION]
    status = "True" if want.ready else "False"
    if not want.reason:
        return None if known is None else _plain(others)
    if known is not None and (known.status, known.reason, known.message) == (status, want.reason, want.message):
        return None
    since = known.last_transition_time if known is not None and known.status == status else now
    made = Condition(
        type=CONDITION, status=status, reason=want.reason, message=want.message, last_transition_time=since
    )
    return _plain([*others, made])


def _plain(conditions: Iterable[Condition]) -> list[dict[str, Any]]:
    """The API wants reason and message in every condition, also where they are empty."""
    return [{"reason": "", "message": "", **msgspec.to_builtins(c)} for c in conditions]
