"""`portway up` and `portway down` as a person sees them: a line per step, and what to do next.

Works without a terminal. Ctrl-C and SIGTERM during `up` take back what was started. The work is `lab.launch`'s.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from types import FrameType

from portway.cli.errors import UserError
from portway.cli.session import Session
from portway.cli.show import complain, say
from portway.lab import launch, state
from portway.lab.launch import LaunchError, Order
from portway.lab.state import State, StateError

_OTHERS_SECONDS = 10.0
"""Another `up` gets as long as ours, and this to take back what it made."""


def order(
    *,
    nodes: int | None,
    images: Iterable[str],
    zones: int | None,
    publish: Sequence[str],
    timeout: float,
    userns: bool,
) -> Order:
    """What `up` was told, checked. UserError for words that cannot be."""
    in_userns = userns or launch.wants_user_namespace(os.environ)
    return Order(nodes, parse_images(images), in_userns, timeout, zones, parse_published(publish))


def up(session: Session, order: Order) -> None:
    """Bring the cluster up, or say that it is up."""
    started = time.monotonic()
    with state.lock(session.home, order.timeout + _OTHERS_SECONDS):
        known = session.load()
        if known is not None and launch.is_up(session.folder, known):
            say(f"{session.folder.name} is already up: {len(known.nodes)} nodes (portway node add NAME adds one)")
            if order.publish:
                complain(f"nothing more is published now: portway publish{session.named} add {order.publish[0]}")
            say(how_to_use(session))
            return
        state.prepare(session.folder)
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            with closing(launch.up(session.folder, order)) as steps:
                for step in steps:
                    complain(f"{step.seconds:6.2f} s  {step.text}")
        except LaunchError as e:
            raise UserError(str(e)) from e
        except KeyboardInterrupt as e:
            raise UserError("interrupted: what was started is gone again", 130) from e
    say(f"{session.folder.name} is up after {time.monotonic() - started:.2f} s")
    say(how_to_use(session))


def down(session: Session) -> None:
    """End the cluster; none there is no error."""
    started = time.monotonic()
    with state.lock(session.home):
        try:
            there = launch.down(session.folder, _known(session))
        except LaunchError as e:
            raise UserError(str(e)) from e
        if there:
            say(f"{session.folder.name} is down after {time.monotonic() - started:.2f} s: nothing is left")
        else:
            say(f"{session.folder.name} is not up: nothing to do")


def _known(session: Session) -> State | None:
    """What `state.json` says. One that we cannot read stays, and so does all else in the folder, but nothing runs any more."""
    try:
        return session.load()
    except StateError as e:
        ended = launch.end(session.folder, None)
        raise UserError(f"{e}; its supervisor is ended" if ended else str(e)) from e


def parse_images(words: Iterable[str]) -> dict[str, str]:
    """NAME=COMMAND or NAME=DIRECTORY, as often as given. UserError for anything else."""
    from portway.node.images import MappingError, parse_mapping

    result: dict[str, str] = {}
    for word in words:
        try:
            parse_mapping(word)
        except MappingError as e:
            raise UserError(str(e), 2) from e
        name, _, command = word.partition("=")
        result[name] = command
    return result


def parse_published(words: Sequence[str]) -> tuple[str, ...]:
    """PORT:ADDRESS:PORT as often as given, as the supervisor will read them again. UserError for anything else."""
    if not words:
        return ()
    from portway.lab.publish import NoSuchPublish, parse_all

    try:
        return tuple(record.text for record in parse_all(words))
    except NoSuchPublish as e:
        raise UserError(str(e), 2) from e


def how_to_use(session: Session) -> str:
    named = session.named
    return "\n".join(
        (
            f"  export KUBECONFIG={session.folder.kubeconfig}",
            f"  portway kubectl{named} get nodes        portway exec{named} client -- COMMAND",
            f"  portway status{named}                   portway down{named}",
        )
    )


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
