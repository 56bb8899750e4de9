"""The reconcile loop that every controller and agent uses, with its clock, its wake-up set, its back-off and its
generation."""

from portway.loop.backoff import Backoff
from portway.loop.clock import Clock, FakeClock, SystemClock, micro_stamp, parse_stamp, stamp
from portway.loop.generation import Generation
from portway.loop.reconcile import Pass, Settings, Synced, reconcile
from portway.loop.wake import ALL, Wake

__all__ = [
    "ALL",
    "Backoff",
    "Clock",
    "FakeClock",
    "Generation",
    "Pass",
    "Settings",
    "Synced",
    "SystemClock",
    "Wake",
    "micro_stamp",
    "parse_stamp",
    "reconcile",
    "stamp",
]
