"""The detached process that holds the whole cluster: isolates itself, starts everything, reports, and waits for its end.

Started by `launch` as `python -m portway.lab.supervisor ORDER`, with one JSON object as the order and a pipe for progress.
SIGTERM ends it in an orderly way; any other end takes pods and namespaces along, because they live below this process.
Its log is the file that its standard error is. It enters its namespaces before it imports anything that starts a thread.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portway.lab.isolate import CannotIsolate, isolate
from portway.lab.resources import cure, raise_file_limit

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable

    from portway.lab.running import Running
    from portway.lab.wanted import Wanted


_MOST_SAID = 2
"""So many agents' last words go into the message of a cluster that is not ready."""


class Reporter:
    """The pipe to the user's `portway up`; nobody may be listening any more."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._gone: Callable[[], None] | None = None

    def watch(self, loop: AbstractEventLoop, gone: Callable[[], None]) -> None:
        """`gone` is called when `up` ends before the cluster is ready: killed, it could not tell us to end."""

        def lost() -> None:
            self.close()
            gone()

        self._loop, self._gone = loop, lost
        loop.add_reader(self._fd, lost)  # the writing end of a pipe is "readable" once nobody reads

    def __call__(self, step: str, *, ready: bool = False) -> None:
        self._write({"step": step, "ready": ready})

    def failed(self, error: str) -> None:
        self._write({"error": error})

    def close(self) -> None:
        if self._fd >= 0:
            if self._gone is not None:
                self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _write(self, words: dict[str, Any]) -> None:
        if self._fd < 0:
            return
        try:
            os.write(self._fd, json.dumps(words).encode() + b"\n")
        except BrokenPipeError:
            (self._gone or self.close)()


def main(order: dict[str, Any]) -> int:
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    os.umask(0o077)
    raise_file_limit()
    report = Reporter(int(order["report"]))
    try:
        isolate(user_namespace=bool(order["user_namespace"]))
    except CannotIsolate as e:
        report.failed(str(e))
        return 1
    import asyncio

    from portway.lab.logs import log_to

    log_to(sys.stderr, Path(order["log"]))
    return asyncio.run(_run(order, report))


async def _run(order: dict[str, Any], report: Reporter) -> int:
    import asyncio

    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, ended.set)
    task = asyncio.create_task(_cluster(order, report, ended))
    return await task


@contextmanager
def without_authorities() -> Iterator[None]:
    """The machine's certificate authorities are no files here. aiohttp reads them all when it is imported, which takes longer
    than the rest of it, and whoever speaks in the lab trusts the lab's own authority alone. Pods see the user's values again."""
    names = ("SSL_CERT_FILE", "SSL_CERT_DIR")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, os.devnull))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


async def _cluster(order: dict[str, Any], report: Reporter, ended: Any) -> int:
    import asyncio

    with without_authorities():
        from portway.lab import control
        from portway.lab.running import Running
    from portway.lab.state import Folder
    from portway.loop.clock import SystemClock

    folder = Folder(Path(order["folder"]))
    running = Running(folder, SystemClock(), report)
    coming = asyncio.create_task(_come_up(running, order, report))
    leaving = asyncio.create_task(ended.wait())
    report.watch(asyncio.get_running_loop(), ended.set)
    server = await control.serve(folder.control, _operations(running, ended))
    try:
        await asyncio.wait({coming, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if coming.done() and not coming.result():
            return 1
        await leaving
        return 0
    finally:
        report.close()
        server.close()
        coming.cancel()
        leaving.cancel()
        await asyncio.gather(coming, leaving, return_exceptions=True)
        await running.stop()


def wanted(order: dict[str, Any]) -> Wanted:
    """The order's words as values. NoSuchPublish for a bad one among them."""
    from portway.lab.publish import parse_all
    from portway.lab.wanted import Wanted

    return Wanted(order["nodes"], order["images"], order["zones"], parse_all(order["publish"]))


async def _come_up(running: Running, order: dict[str, Any], report: Reporter) -> bool:
    """Whether the cluster is ready. What went wrong is reported to the user and logged."""
    import asyncio
    import logging

    from portway.apiserver.database import StoreFailed, StoreUnreadable
    from portway.lab.publish import NoSuchPublish
    from portway.lab.running import CannotStart
    from portway.lab.state import StateError
    from portway.lab.topology import NoSuchPlan
    from portway.netns.kernel import NetworkError

    try:
        async with asyncio.timeout(float(order["timeout"])):
            await running.start(wanted(order))
            await running.wait_ready()
    except TimeoutError:
        late = f"not ready within {order['timeout']:g} s: {await _unready(running)}"
        report.failed("; ".join((late, *running.folder.see, "give it more with --timeout")))
        return False
    except (CannotStart, NoSuchPlan, NoSuchPublish, NetworkError, StateError, StoreUnreadable, StoreFailed) as e:
        logging.getLogger("portway.lab").error("%s", e)
        report.failed("; ".join(filter(None, (str(e), cure(e, running.folder.path)))))
        return False
    except Exception as e:
        logging.getLogger("portway.lab").exception("coming up")
        found = cure(e, running.folder.path) or "this is a bug, please report it"
        report.failed("; ".join((f"{type(e).__name__}: {e}", found, *running.folder.see)))
        return False
    gc.collect()
    gc.freeze()
    report("ready", ready=True)
    report.close()
    return True


async def _unready(running: Running) -> str:
    from portway.lab.logs import LATEST

    status = await running.status({})
    hosts = [f"{h['name']} is {h['state']}" for h in status["hosts"] if h["state"] not in ("ready", "off")]
    agents = [f"{a['name']} {a['host']}".strip() + f": {a['error']}" for a in status["agents"] if a["error"]]
    said = [f"{name or 'the supervisor'} said: {text}" for name, text in LATEST.said.items()] if hosts else []
    return "; ".join(hosts + agents + said[-_MOST_SAID:]) or "a Service does not answer"


def _operations(running: Running, ended: Any) -> dict[str, Any]:
    async def down(_: object) -> None:
        ended.set()

    return {
        "status": running.status,
        "node-add": running.node_add,
        "node-remove": running.node_remove,
        "node-stop": running.node_stop,
        "node-start": running.node_start,
        "route-add": running.route_add,
        "route-delete": running.route_delete,
        "routes": running.routes,
        "publish-add": running.published.add,
        "publish-remove": running.published.remove,
        "published": running.published.list,
        "down": down,
    }


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
