"""Send HTTP requests and say what answered: run inside a host of the lab by the demo and the tests.

    portway exec client -- python3 examples/request.py http://10.100.0.2:30080/ --count 20

One new connection a request, one after another (or `--workers` at once), until `--count` or `--seconds` is reached, or
SIGTERM arrives. Prints one JSON object: `sent`, `ok`, `failed` (by errno or reason), `bodies` (each answer and how often
it came) and `slowest_ms`. Standard library only: it runs wherever a Python does. Loops end by themselves.
"""

from __future__ import annotations

import argparse
import collections
import errno
import http.client
import json
import signal
import sys
import threading
import time
from urllib.parse import urlsplit


class Tally:
    """What happened to the requests, counted under one lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.sent = 0
        self.ok = 0
        self.slowest = 0.0
        self.failed: collections.Counter[str] = collections.Counter()
        self.bodies: collections.Counter[str] = collections.Counter()

    def report(self) -> dict[str, object]:
        return {
            "sent": self.sent,
            "ok": self.ok,
            "failed": dict(self.failed),
            "bodies": dict(self.bodies),
            "slowest_ms": round(self.slowest * 1000, 1),
        }


def once(url: str, timeout: float, tally: Tally) -> None:
    """One request on a connection of its own."""
    parts = urlsplit(url)
    started = time.monotonic()
    problem, body = "", ""
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=timeout)
    try:
        connection.request("GET", parts.path or "/", headers={"Connection": "close"})
        answer = connection.getresponse()
        body = answer.read().decode(errors="replace").strip()
        if answer.status >= 400:
            problem = f"HTTP {answer.status}"
    except TimeoutError:
        problem = "timed out"
    except OSError as e:
        problem = errno.errorcode.get(e.errno or 0, type(e).__name__)
    except http.client.HTTPException as e:
        problem = type(e).__name__
    finally:
        connection.close()
    with tally.lock:
        tally.sent += 1
        if problem:
            tally.failed[problem] += 1
        else:
            tally.ok += 1
            tally.bodies[body] += 1
        tally.slowest = max(tally.slowest, time.monotonic() - started)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--count", type=int, default=1, help="requests in all (default 1; at most 100000)")
    parser.add_argument("--seconds", type=float, default=60.0, help="end after this long (default 60, at most 120)")
    parser.add_argument("--interval", type=float, default=0.0, help="pause between two requests, in seconds")
    parser.add_argument("--timeout", type=float, default=2.0, help="of one request, in seconds")
    parser.add_argument("--workers", type=int, default=1, help="requests at once (default 1, at most 16)")
    parser.add_argument("--announce", action="store_true", help="print an empty line after the first answer")
    parser.add_argument("--until-ok", action="store_true", help="end after the first answer")
    options = parser.parse_args()

    tally, answered, stop = Tally(), threading.Event(), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    end = time.monotonic() + min(options.seconds, 120.0)
    budget = threading.Semaphore(min(options.count, 100_000))

    def worker() -> None:
        while not stop.is_set() and time.monotonic() < end and budget.acquire(blocking=False):
            once(options.url, options.timeout, tally)
            if tally.ok and not answered.is_set():
                answered.set()
                if options.announce:
                    print(flush=True)
                if options.until_ok:
                    stop.set()
            if options.interval:
                stop.wait(options.interval)

    threads = [threading.Thread(target=worker) for _ in range(max(1, min(options.workers, 16)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps(tally.report()))
    return 0 if tally.ok == tally.sent else 1


if __name__ == "__main__":
    sys.exit(main())
