"""Walk along the road from a client to a pod: `make demo`.

Brings up a cluster of two nodes, applies the manifests beside this file, and for each step says what is tried, what
answered and why. Every command is printed as a user would type it. The cluster is left running. A step whose answer is
not what it should be ends the walk with exit code 1, so this is a test as well.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
REQUEST = HERE.parent / "request.py"
BIN = Path(sys.executable).parent
NODES = {"node-1": "10.100.0.2", "node-2": "10.100.0.3"}
WEB = "app=service_demo_pod"


class Surprise(Exception):
    """The road did not do what this step promises."""


@dataclass(frozen=True)
class Answers:
    """What a series of requests got: answers by body, failures by errno."""

    sent: int
    ok: int
    failed: dict[str, int]
    bodies: dict[str, int]
    slowest_ms: float

    def __str__(self) -> str:
        parts = [f"{count} × {body}" for body, count in sorted(self.bodies.items())]
        parts += [f"{count} × {name}" for name, count in sorted(self.failed.items())]
        return "\n".join(parts)


def out(text: str = "", indent: int = 0) -> None:
    print(textwrap.indent(text, " " * indent), flush=True)


def title(text: str) -> None:
    out(f"\n━━ {text} " + "━" * max(0, 108 - len(text)))


def why(text: str) -> None:
    out(textwrap.fill("Why: " + text, 108, subsequent_indent="     "), 2)


def expect(true: bool, words: str) -> None:
    if not true:
        raise Surprise(words)


def typed(*args: str) -> str:
    """A command as a user types it."""
    return "$ portway " + " ".join(a if a.replace("/", "").replace("-", "").isalnum() else _quote(a) for a in args)


def _quote(arg: str) -> str:
    arg = arg.replace(str(Path.cwd()) + "/", "")
    return f"'{arg}'" if any(c in arg for c in " {}*") else arg


def portway(*args: str, show: bool = True, check: bool = True) -> str:
    """Run `portway ARGS` and return its standard output (with `show`, print both and return errors too)."""
    if show:
        out(typed(*args), 2)
    done = subprocess.run([str(BIN / "portway"), *args], text=True, capture_output=True, stdin=subprocess.DEVNULL)
    if check and done.returncode != 0:
        raise Surprise(f"{typed(*args)} ended with {done.returncode}: {done.stderr or done.stdout}")
    if show:
        if printed := (done.stderr + done.stdout).rstrip():
            out(printed, 4)
        return done.stdout + done.stderr
    return done.stdout


def get(*args: str) -> dict[str, Any]:
    return dict(json.loads(portway("kubectl", "get", *args, "-o", "json", show=False)))


def request(host: str, url: str, count: int = 1, **options: float) -> Answers:
    """Send requests from `host` with examples/request.py; print one line a kind of answer."""
    out(f"$ portway exec {host} -- python3 examples/request.py {url} --count {count}", 2)
    answers = quietly(host, url, count, **options)
    out(str(answers), 4)
    return answers


def quietly(host: str, url: str, count: int = 1, **options: float) -> Answers:
    flags = [f"--{k}={v}" for k, v in options.items()]
    command = ["exec", host, "--", sys.executable, "-I", "-S", str(REQUEST), url, f"--count={count}", *flags]
    return Answers(**json.loads(portway(*command, show=False, check=False)))


def until_answers(url: str) -> float:
    """Seconds until `url` answers `client`."""
    started = time.monotonic()
    while not quietly("client", url, timeout=0.5).ok:
        expect(time.monotonic() - started < 20, f"{url} did not answer within 20 s")
    return time.monotonic() - started


def until_asked(url: str, names: set[str]) -> None:
    """Wait until exactly these pods answer."""
    started = time.monotonic()
    while True:
        bodies = quietly("node-1", url, 20).bodies
        if {n for n in names if any(n in body for body in bodies)} == names and len(bodies) == len(names):
            return
        expect(time.monotonic() - started < 20, f"{', '.join(sorted(names))} were not what answered within 20 s")


def until_ready() -> None:
    """Wait until every node is Ready again."""
    started = time.monotonic()
    while json.loads(portway("status", "-o", "json", show=False, check=False))["ready"] is not True:
        expect(time.monotonic() - started < 20, "the cluster was not ready again within 20 s")


def apply(name: str) -> None:
    portway("kubectl", "apply", "-f", str(HERE / name))


def service(name: str) -> tuple[str, int]:
    """Its cluster address and (0 if it has none) its node port."""
    spec = get("service", name)["spec"]
    return str(spec["clusterIP"]), int(spec["ports"][0].get("nodePort", 0))


def pods(selector: str) -> list[dict[str, Any]]:
    """Those that are not on their way out."""
    return [p for p in get("pods", "-l", selector)["items"] if "deletionTimestamp" not in p["metadata"]]


def step_0() -> None:
    title("portway up: a cluster of two nodes on this machine")
    portway("up", "--nodes", "2")
    portway("status")
    why(
        "Each host is a network namespace; nothing was added to this machine's own network, and there is no way out of "
        "the lab. kubectl is the real one; its API server listens on 127.0.0.1 only."
    )


def step_1() -> None:
    title("1. Two pods, on two nodes")
    apply("10-deployment.yaml")
    portway("kubectl", "rollout", "status", "deployment/service-demo")
    portway("kubectl", "get", "pods", "-o", "wide")
    one, two = pods(WEB)
    name, address = one["metadata"]["name"], two["status"]["podIP"]
    until_answers(f"http://{address}:8080/")
    answers = request(f"pod/default/{name}", f"http://{address}:8080/")
    expect(answers.ok == 1, "a pod must reach the pod of the other node")
    answers = request(f"pod/default/{name}", f"http://{NODES['node-2']}:81/")
    expect(answers.failed == {"ECONNREFUSED": 1}, "a pod must reach the nodes")
    why(
        "Every pod has an address of its node's pod CIDR; the nodes route them to each other, without address "
        "translation. The node refused port 81 because nobody listens there: the packet arrived."
    )


def step_2() -> None:
    title("2. One address for both: a Service")
    apply("20-service.yaml")
    portway("kubectl", "get", "service", "service-demo")
    portway("kubectl", "get", "endpointslices", "-l", "kubernetes.io/service-name=service-demo")
    address, _ = service("service-demo")
    for source in (f"pod/default/{pods(WEB)[0]['metadata']['name']}", "node-1"):
        answers = request(source, f"http://{address}/", 20)
        expect(answers.ok == 20 and len(answers.bodies) == 2, f"both pods must answer {source}")
    hosts = [portway("exec", host, "--", "cat", "/proc/net/fib_trie", show=False) for host in NODES]
    expect(not any(address in table for table in hosts), "the address must be on no interface")
    why(
        f"{address} is on no interface of any host. On every node a netfilter map says: {address} . tcp . 80 → pick one of "
        "two, and the kernel rewrites the destination of a connection's first packet to that pod."
    )


def step_3() -> None:
    title("3. Only pods that are ready are asked; pods come and go and nobody notices")
    apply("25-shop.yaml")
    portway("kubectl", "rollout", "status", "deployment/shop")
    url = f"http://{service('shop')[0]}/"
    sick, well = (p["metadata"]["name"] for p in pods("app=shop"))
    portway("kubectl", "exec", sick, "--", "rm", "/srv/ready")
    portway("kubectl", "wait", f"pod/{sick}", "--for=condition=Ready=false", "--timeout=20s")
    until_asked(url, {well})
    answers = request("node-1", url, 20)
    expect(not any(sick in body for body in answers.bodies), "a pod that is not ready must not be asked")
    portway("kubectl", "exec", sick, "--", "touch", "/srv/ready")
    portway("kubectl", "wait", f"pod/{sick}", "--for=condition=Ready", "--timeout=20s")
    until_asked(url, {sick, well})
    out(f"both are asked again: {sick} answers its readiness probe", 2)
    why(
        "The node's agent asks /ready each second. The first failure made the pod not ready, its endpoint left the slice, and "
        "each node's proxy changed a few map elements in one transaction: no rule was added or removed."
    )
    portway("kubectl", "delete", "pod", sick, "--wait=false")
    portway("kubectl", "rollout", "status", "deployment/shop")
    expect(sick not in {p["metadata"]["name"] for p in pods("app=shop")}, "the deleted pod must be replaced")
    why("The replica set made another pod at once; the old one left the Service as soon as its deletion began.")
    step_3_rolling(url)


def step_3_rolling(url: str) -> None:
    """Rolling updates under load, with a preStop sleep and without."""
    answers = roll_under_load(url, "rollout", "restart", "deployment/shop")
    expect(not answers.failed, "a rolling update with a preStop sleep must lose no request")
    why("A pod sleeps a second before it ends, and is out of every node's tables long before that: nothing is lost.")
    hook = '[{"op":"remove","path":"/spec/template/spec/containers/0/lifecycle"}]'
    portway("kubectl", "patch", "deployment/shop", "--type=json", "-p", hook)
    portway("kubectl", "rollout", "status", "deployment/shop")
    answers = roll_under_load(url, "rollout", "restart", "deployment/shop")
    expect(sum(answers.failed.values()) <= 2, "without preStop only what is in flight may be lost")
    why(
        "Without the sleep the server is cut off in the middle of what it is answering; new requests already go elsewhere."
    )


def roll_under_load(url: str, *command: str) -> Answers:
    """Run a kubectl command that replaces all pods of `shop`, with requests under way all the time."""
    load = ["exec", "node-1", "--", sys.executable, "-I", "-S", str(REQUEST), url]
    flags = ["--count=100000", "--seconds=60", "--interval=0.005", "--announce"]
    out(f"$ portway exec node-1 -- python3 examples/request.py {url} --seconds 60 --interval 0.005 &", 2)
    old = {p["metadata"]["name"] for p in pods("app=shop")}
    process = subprocess.Popen([str(BIN / "portway"), *load, *flags], text=True, stdout=subprocess.PIPE)
    try:
        expect(process.stdout is not None and process.stdout.readline() == "\n", f"{url} must answer node-1")
        portway("kubectl", *command)
        portway("kubectl", "rollout", "status", "deployment/shop")
        for pod in old:
            portway("kubectl", "wait", f"pod/{pod}", "--for=delete", "--timeout=30s", show=False)
        process.send_signal(signal.SIGTERM)
        answers = Answers(**json.loads(process.communicate(timeout=30)[0]))
    finally:
        process.kill()
        process.wait()
    lost = ", ".join(f"{count} × {name}" for name, count in answers.failed.items()) or "none"
    out(f"requests while both pods were replaced: {answers.sent}, failed: {lost}", 4)
    return answers


def step_4() -> None:
    title("4. A client outside, and a route that knows one node")
    address, _ = service("service-demo")
    portway("route", "add", "10.3.240.0/20", "--via", "node-1")
    try:
        answers = request("client", f"http://{address}/", 10)
        expect(answers.ok == 10, "the cluster address must answer the client through node-1")
        why("netfilter's rule asks for no origin: whoever gets a packet for that address to a node is served.")
        portway("node", "stop", "node-1")
        answers = request("client", f"http://{address}/", 2, timeout=0.5)
        expect(answers.ok == 0, "with node-1 stopped the route must lead nowhere")
        why(
            "The route still says node-1, and node-1 is off. node-2 and its pod are healthy, but nobody sends it anything. "
            "A road that depends on one node is why a load balancer has to stand in front of the nodes."
        )
        portway("route", "delete", "10.3.240.0/20")
        portway("route", "add", "10.3.240.0/20", "--via", "node-2")
        seconds = until_answers(f"http://{address}/")
        out(f"through node-2 it answers again, {seconds:.1f} s after the route changed", 2)
    finally:
        portway("node", "start", "node-1", show=False)
        portway("route", "delete", "10.3.240.0/20", show=False, check=False)
    until_ready()
    portway("kubectl", "rollout", "status", "deployment/service-demo", show=False)


def step_5() -> None:
    title("5. A port of a node that nobody opened")
    answers = request("client", "http://10.100.0.2:80/")
    expect(answers.failed == {"ECONNREFUSED": 1}, "port 80 of node-1 must be refused")
    why("No process listens on the node's port 80, and no netfilter rule matches: the node's kernel says no.")


def step_6() -> None:
    title("6. NodePort: the same port on every node")
    apply("30-nodeport.yaml")
    apply("40-echo.yaml")
    portway("kubectl", "rollout", "status", "deployment/echo")
    portway("kubectl", "get", "services")
    _, port = service("service-demo-nodeport")
    _, echo_port = service("echo")
    for node, address in NODES.items():
        until_answers(f"http://{address}:{port}/")
        answers = request("client", f"http://{address}:{port}/", 10)
        expect(answers.ok == 10, f"{node} must answer on its node port")
    (echo,) = get("pods", "-l", "app=echo")["items"]
    out(f"\n  The pod {echo['metadata']['name']} runs on {echo['spec']['nodeName']} only:")
    for node, address in NODES.items():
        until_answers(f"http://{address}:{echo_port}/")
        answers = request("client", f"http://{address}:{echo_port}/")
        (seen,) = (json.loads(body) for body in answers.bodies)
        out(f"through {node} the pod saw its client as {seen['source']['address']}, not as 198.51.100.10", 4)
        expect(seen["source"]["address"] != "198.51.100.10", "the source must be the node's")
    why(
        "The node that was asked may send the connection to a pod elsewhere. The answer must come back through it to be "
        "translated, so it puts its own address in as the source (masquerade), and the pod sees a node."
    )


def step_7() -> None:
    title("7. What cannot be had is refused at the request")
    address, port = service("service-demo-nodeport")
    for words, *flags in (
        ("range of valid ports", "--tcp=80:8080", "--node-port=99"),
        ("already allocated", "--tcp=80:8080", f"--node-port={port}"),
    ):
        said = portway("kubectl", "create", "service", "nodeport", "refused", *flags, check=False)
        expect(words in said, f"kubectl must be told: {words}")
    for words, wanted in (("already allocated", address), ("not in the valid range", "192.0.2.1")):
        said = portway(
            "kubectl", "create", "service", "clusterip", "refused", "--tcp=80:8080", f"--clusterip={wanted}", check=False
        )  # fmt: skip
        expect(words in said, f"kubectl must be told: {words}")
    why("Allocation and the write are one transaction of the API server: refused means that nothing is half-taken.")


def step_8() -> None:
    title("8. A third node joins, answers and leaves")
    portway("node", "add", "node-3")
    _, port = service("service-demo-nodeport")
    seconds = until_answers(f"http://10.100.0.4:{port}/")
    out(f"its node port answers {seconds:.1f} s after `node add` returned", 2)
    portway("kubectl", "get", "nodes", "-o", "custom-columns=NAME:.metadata.name,POD-CIDR:.spec.podCIDR")
    portway("kubectl", "scale", "deployment/service-demo", "--replicas=3")
    portway("kubectl", "rollout", "status", "deployment/service-demo")
    portway("kubectl", "get", "pods", "-l", WEB, "-o", "wide")
    portway("node", "remove", "node-3")
    portway("kubectl", "rollout", "status", "deployment/service-demo")
    portway("kubectl", "get", "pods", "-l", WEB, "-o", "wide")
    answers = request("client", f"http://10.100.0.2:{port}/", 10)
    expect(answers.ok == 10, "traffic must go on after the node left")


STEPS = (step_0, step_1, step_2, step_3, step_4, step_5, step_6, step_7, step_8)


def main() -> int:
    started = time.monotonic()
    try:
        for step in STEPS:
            step()
    except Surprise as e:
        out(
            f"\n✗ {e}\n  The cluster is left as it is: `.venv/bin/portway status`; stop it with `.venv/bin/portway down`."
        )
        return 1
    except KeyboardInterrupt:
        out("\ninterrupted; the cluster is left as it is. Stop it with `.venv/bin/portway down`.")
        return 130
    title("The road is open")
    short = os.path.relpath(BIN / "portway")
    out(
        textwrap.dedent(f"""\
        All steps answered as they should, in {time.monotonic() - started:.0f} s. The cluster is running. Try:

          {short} status                         hosts, addresses, agents
          {short} kubectl get all                the real kubectl, with the lab's kubeconfig
          {short} exec node-1 -- bash            a shell in a node's network (client, edge, pod/default/NAME too)
          export KUBECONFIG=$({short} kubeconfig)
          {short} down                           stop it; nothing stays behind
        """),
        2,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
