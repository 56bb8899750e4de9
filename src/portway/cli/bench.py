"""`portway bench`: Portway's own figures, on the user's machine: `startup` and `dns`.

Every run uses a cluster of its own below a temporary folder, brought up and down through the command line as a user
does it, so the figures include the interpreter's start. Load is bounded: one small Deployment a run. As a yardstick for
the machine, `python_start_s` is measured in the same run: ratios to it can be compared between machines.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import typer

from portway.cli.kubectl import kubectl_binary

app = typer.Typer(help="Measure Portway on this machine.", no_args_is_help=True)

ADDRESS = "10.3.240.200"
"""The Service asks for this address, so that requests can be under way before it exists."""

_ASK = f"""
import http.client, sys, time
end = time.monotonic() + 30
while time.monotonic() < end:
    connection = http.client.HTTPConnection("{ADDRESS}", 80, timeout=0.1)
    try:
        connection.request("GET", "/")
        connection.getresponse().read()
        sys.exit(0)
    except OSError:
        time.sleep(0.002)
    finally:
        connection.close()
sys.exit(1)
"""


def _manifest() -> str:
    labels = {"app": "bench"}
    script = 'echo "<p>Hello from $(hostname)</p>" > index.html; exec python3 -m http.server 8080'
    container = {
        "name": "web",
        "image": "python:3.11",
        "command": ["/bin/bash", "-c", script],
        "ports": [{"name": "http", "containerPort": 8080}],
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "bench"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }
    spec = {"selector": labels, "clusterIP": ADDRESS, "ports": [{"port": 80, "targetPort": "http"}]}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "bench"}, "spec": spec}
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": [deployment, service]})


@dataclass(frozen=True, slots=True)
class Run:
    """One cluster's life, in seconds and MB. `rss_mb` is of all its processes, taken before there is a pod."""

    python_start_s: float
    up_s: float
    rss_mb: float
    apply_to_first_answer_s: float
    down_s: float


def _timed(command: Sequence[str], env: dict[str, str], stdin: str = "") -> tuple[float, str]:
    """Wall seconds and standard output; SystemExit with the command's words when it fails."""
    started = time.monotonic()
    done = subprocess.run(command, env=env, text=True, capture_output=True, input=stdin, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return time.monotonic() - started, done.stdout


def _resident_mb(root: int) -> float:
    """Resident memory of a process and everything below it; pages that they share count once for each."""
    parents: dict[int, list[int]] = {}
    sizes: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = dict(line.split(":", 1) for line in (entry / "status").read_text().splitlines() if ":" in line)
        except OSError:  # it has just ended
            continue
        parents.setdefault(int(fields["PPid"]), []).append(int(entry.name))
        sizes[int(entry.name)] = int(fields.get("VmRSS", "0 kB").split()[0])
    total, below = 0, [root]
    while below:
        pid = below.pop()
        total += sizes.get(pid, 0)
        below += parents.get(pid, [])
    return total / 1024


def one_run(home: Path) -> Run:
    """Bring a cluster of two nodes up, ask it, take it down."""
    env = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")} | {"PORTWAY_HOME": str(home)}
    portway = [sys.executable, "-m", "portway"]
    python_start, _ = _timed([sys.executable, "-c", "pass"], env)
    up, _ = _timed([*portway, "up", "--nodes", "2"], env)
    try:
        status: dict[str, Any] = json.loads(_timed([*portway, "status", "-o", "json"], env)[1])
        resident = _resident_mb(int(status["supervisor"]["pid"]))
        kube = env | {"KUBECONFIG": str(status["kubeconfig"]), "KUBECACHEDIR": str(home / "cache")}
        _timed([kubectl_binary(), "get", "services"], kube)  # discovery is cached, as on a machine in use
        asking = subprocess.Popen([*portway, "exec", "node-1", "--", sys.executable, "-I", "-S", "-c", _ASK], env=env)
        started = time.monotonic()
        try:
            _timed([kubectl_binary(), "apply", "-f", "-"], kube, stdin=_manifest())
            if asking.wait(timeout=40) != 0:
                raise SystemExit(f"{ADDRESS} did not answer within 30 s; see `portway status`")
            answered = time.monotonic() - started
        finally:
            asking.kill()
            asking.wait()
    finally:
        down, _ = _timed([*portway, "down"], env)
    return Run(python_start, up, resident, answered, down)


def summary(runs: Sequence[Run]) -> dict[str, dict[str, float]]:
    """Minimum, median and maximum of each figure."""
    names = Run.__dataclass_fields__
    columns = {name: [float(getattr(run, name)) for run in runs] for name in names}
    columns["up_per_python_start"] = [run.up_s / run.python_start_s for run in runs]
    return {
        name: {"min": round(min(v), 3), "median": round(statistics.median(v), 3), "max": round(max(v), 3)}
        for name, v in columns.items()
    }


@app.callback()
def _measure() -> None:
    """Measure Portway on this machine. (A callback keeps the name of a single command on the line.)"""


@app.command()
def startup(
    runs: int = typer.Option(5, min=1, max=50, help="Counted runs; one more comes first, to warm up."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """How long `up`, `down` and the first answer take, and what the processes weigh.

    Example: portway bench startup --runs 10 --json
    """
    counted: list[Run] = []
    for number in range(runs + 1):
        with tempfile.TemporaryDirectory(prefix="portway-bench-") as folder:
            run = one_run(Path(folder))
        if number:
            counted.append(run)
        print(f"run {number} of {runs}: up {run.up_s:.2f} s" if number else "warm", file=sys.stderr, flush=True)
    figures = summary(counted)
    if as_json:
        print(json.dumps({"runs": runs, "cpus": os.cpu_count(), "figures": figures}, indent=2))
        return
    print(f"{'figure':26}{'min':>10}{'median':>10}{'max':>10}   ({runs} runs, {os.cpu_count()} processors)")
    for name, row in figures.items():
        print(f"{name:26}{row['min']:>10.3f}{row['median']:>10.3f}{row['max']:>10.3f}")


@app.command()
def dns(
    services: int = typer.Option(1000, min=1, max=4000, help="Services with two ports each."),
    seconds: float = typer.Option(3.0, min=0.1, max=60.0, help="How long each mix of questions is asked."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """How many questions a second one agent of names answers: full names, and what a pod's search list really asks.

    Example: portway bench dns --services 1000 --seconds 3
    """
    from portway.cli.bench_dns import measure

    figures = measure(services, seconds)
    if as_json:
        print(json.dumps(asdict(figures), indent=2))
        return
    print(f"{'mix':10}{'answers/s':>12}{'per CPU second':>18}{'lost':>8}   ({services} Services)")
    for name, rate in (("full", figures.hits), ("search", figures.search)):
        print(f"{name:10}{rate.per_second:>12,}{rate.per_cpu_second:>18,}{rate.lost:>8}")
    print(f"compile all {figures.compile_s:.3f} s, change one Service {figures.change_ms:.3f} ms")
