"""Drive a real one-machine cluster from tests: the command line is the interface, real kubectl and real packets the means.

`Lab` wraps one cluster under its own state folder. `Lab.request` sends HTTP requests from inside a host or a pod and
returns what answered; `Lab.load` does so in the background while the test changes something.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
REQUEST = ROOT / "examples" / "request.py"
EXAMPLE = ROOT / "examples" / "01-the-road-opens"
KUBECTL = Path(sys.executable).parent / "kubectl"


@dataclass(frozen=True)
class Report:
    """What request.py saw: counts, failures by errno, answers by body."""

    sent: int
    ok: int
    failed: dict[str, int]
    bodies: dict[str, int]
    slowest_ms: float

    def echoes(self) -> list[dict[str, Any]]:
        """The answers of `portway/echo`, decoded."""
        return [json.loads(body) for body in self.bodies]


@dataclass
class Load:
    """Requests that go on in the background until `stop`."""

    process: subprocess.Popen[str]
    result: Report | None = field(default=None)

    def stop(self) -> Report:
        self.process.send_signal(signal.SIGTERM)
        out, _ = self.process.communicate(timeout=30)
        return Report(**json.loads(out))


class Lab:
    """One cluster. `userns` brings it up inside a user namespace, as an ordinary user's is, also when we are root."""

    def __init__(self, home: Path, *, userns: bool = False) -> None:
        self.home = home
        self.env = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        self.env |= {"PORTWAY_HOME": str(home), "NO_COLOR": "1", "COLUMNS": "200"}
        if userns:
            self.env["PORTWAY_USERNS"] = "1"

    def portway(self, *args: str, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "portway", *args],
            env=self.env, text=True, capture_output=True, timeout=timeout, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if check and done.returncode != 0:
            raise AssertionError(f"portway {' '.join(args)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def up(self, *args: str) -> None:
        self.portway("up", *args)
        path = self.portway("kubeconfig").stdout.strip()
        self.env |= {"KUBECONFIG": path, "KUBECACHEDIR": str(self.home / "kubectl-cache")}

    def status(self) -> dict[str, Any]:
        done = self.portway("status", "-o", "json", check=False)
        return dict(json.loads(done.stdout))

    def kubectl_run(self, *args: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(KUBECTL), *args], env=self.env, text=True, capture_output=True, timeout=90, input=stdin or ""
        )

    def kubectl(self, *args: str, stdin: str | None = None) -> str:
        done = self.kubectl_run(*args, stdin=stdin)
        if done.returncode != 0:
            raise AssertionError(f"kubectl {' '.join(args)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def get(self, *args: str) -> dict[str, Any]:
        return dict(json.loads(self.kubectl("get", *args, "-o", "json")))

    def apply(self, namespace: str, *objects: dict[str, Any] | Path) -> None:
        for thing in objects:
            text = thing.read_text() if isinstance(thing, Path) else json.dumps(thing)
            self.kubectl("apply", "-n", namespace, "-f", "-", stdin=text)

    def rolled_out(self, namespace: str, deployment: str) -> None:
        self.kubectl("rollout", "status", "-n", namespace, f"deployment/{deployment}", "--timeout=60s")

    @contextmanager
    def namespace(self, name: str) -> Iterator[str]:
        self.kubectl("create", "namespace", name)
        try:
            yield name
        finally:
            self.kubectl("delete", "namespace", name, "--timeout=60s")

    def _request_command(self, host: str, url: str, options: dict[str, Any]) -> list[str]:
        flags = [
            f"--{k.replace('_', '-')}" if v is True else f"--{k.replace('_', '-')}={v}" for k, v in options.items()
        ]
        return ["exec", host, "--", sys.executable, "-I", "-S", str(REQUEST), url, *flags]

    def request(self, host: str, url: str, **options: Any) -> Report:
        """Requests from inside `host`; the options are request.py's (count, seconds, interval, timeout, until_ok)."""
        done = self.portway(*self._request_command(host, url, options), check=False, timeout=150)
        if not done.stdout:
            raise AssertionError(f"no report from {host}: {done.stderr}")
        return Report(**json.loads(done.stdout))

    @contextmanager
    def load(self, host: str, url: str, **options: Any) -> Iterator[Load]:
        """Requests that run beside the test, from a first answer until it calls `stop` (or `seconds` are over)."""
        options = {"count": 100_000, "seconds": 60, "interval": 0.005, "announce": True} | options
        process = subprocess.Popen(
            [sys.executable, "-m", "portway", *self._request_command(host, url, options)],
            env=self.env, text=True, stdout=subprocess.PIPE,
        )  # fmt: skip
        load = Load(process)
        try:
            if process.stdout is None or process.stdout.readline() != "\n":
                raise AssertionError(f"nothing at {url} answered {host}")
            yield load
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()

    def pods(self, namespace: str, selector: str = "") -> list[dict[str, Any]]:
        """The pods that are not on their way out."""
        args = ("pods", "-n", namespace, *(("-l", selector) if selector else ()))
        return [p for p in self.get(*args)["items"] if "deletionTimestamp" not in p["metadata"]]

    def eventually(self, what: str, condition: Callable[[], bool], seconds: float = 20) -> None:
        """Ask again until true; each question is a request of its own, so nothing here sleeps for long."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise AssertionError(f"not within {seconds} s: {what}")
            time.sleep(0.02)


def cluster_ip(service: dict[str, Any]) -> str:
    return str(service["spec"]["clusterIP"])


def hello(pods: Sequence[dict[str, Any]]) -> set[str]:
    """What the pods of step 1 answer."""
    return {f"<p>Hello from {p['metadata']['name']}</p>" for p in pods}
