"""The agent with a real API server and real processes: pods come up, fail, recover, and go in order."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path

import pytest

from build_node import (
    NODE_ADDRESS,
    NodeRoad,
    api_server,
    give_cidr,
    is_ready,
    manifest,
    needs_pods,
    node_namespace,
    node_road,
    not_ready,
    shell,
)
from portway.client import Client
from portway.loop import SystemClock
from portway.netns.kernel import Namespace
from portway.netns.plan import Owner, Route
from portway.node.agent import NodeAgent, StateUnusable
from portway.node.context import AgentConfig
from portway.node.runtime import RuntimeRefused
from portway.node.wiring import link_name
from portway.objects.core import ConfigMap, ContainerStatus, Lease, Node, Pod, Secret

pytestmark = [needs_pods, pytest.mark.lab]

FOREVER = "exec sleep 1000"


def only(shown: Pod) -> ContainerStatus:
    (status,) = shown.status.container_statuses or ()
    return status


def waits(shown: Pod, reason: str) -> bool:
    statuses = shown.status.container_statuses
    return bool(statuses and statuses[0].state.waiting and statuses[0].state.waiting.reason == reason)


def conditions(shown: Pod) -> dict[str, str]:
    return {c.type: c.status for c in shown.status.conditions or ()}


async def link_gone(road: NodeRoad, shown: Pod) -> None:
    """The kernel takes the link away once nothing is in the pod's network namespace."""
    async with asyncio.timeout(10):
        while link_name(shown.metadata.uid) in road.namespace.links():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert f"{shown.status.pod_ip}/32" not in {r.destination for r in road.namespace.routes()}


def echo(readiness: dict[str, object]) -> dict[str, object]:
    return {"name": "main", "image": "portway/echo", "readinessProbe": readiness}


async def test_a_node_registers_and_becomes_ready() -> None:
    async with node_road(labels={"zone": "a"}) as road:
        node = await road.client.get(Node, "node-1")
        lease = await road.client.get(Lease, "node-1", "kube-node-lease")
    assert node.labels["kubernetes.io/hostname"] == "node-1"
    assert node.labels["zone"] == "a"
    assert [(a.type, a.address) for a in node.status.addresses or ()] == [
        ("InternalIP", NODE_ADDRESS),
        ("Hostname", "node-1"),
    ]
    assert {c.type: c.status for c in node.status.conditions or ()} == {
        "MemoryPressure": "False",
        "DiskPressure": "False",
        "PIDPressure": "False",
        "Ready": "True",
    }
    assert (node.status.allocatable or {})["pods"] == "250"
    assert lease.spec.holder_identity == "node-1"


async def test_the_lease_is_renewed() -> None:
    async with node_road(lease_renew=0.02) as road:
        first = (await road.client.get(Lease, "node-1", "kube-node-lease")).spec.renew_time
        async with asyncio.timeout(5):
            while (await road.client.get(Lease, "node-1", "kube-node-lease")).spec.renew_time == first:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_a_pod_runs() -> None:
    async with node_road() as road:
        await road.apply(manifest("web", shell(FOREVER), hostname="front"))
        shown = await road.until("web", is_ready)
        status = only(shown)
        assert (shown.status.phase, shown.status.pod_ip, shown.status.host_ip) == ("Running", "10.0.1.2", NODE_ADDRESS)
        assert (status.ready, status.started, status.restart_count) == (True, True, 0)
        assert status.state.running is not None and status.container_id.startswith("portway://")
        assert set(conditions(shown).values()) == {"True"}
        assert set(conditions(shown)) == {
            "PodReadyToStartContainers",
            "Initialized",
            "Ready",
            "ContainersReady",
            "PodScheduled",
        }
        assert Route("10.0.1.2/32", link=link_name(shown.metadata.uid), source=NODE_ADDRESS) in road.namespace.routes()
        told = {e.reason for e in await road.events("Started")}
        assert told == {"Started"}


async def test_the_node_reaches_its_pod_and_the_echo_tells_who_asked() -> None:
    async with node_road() as road:
        await road.apply(manifest("echo", echo({"httpGet": {"port": 8080}})))
        shown = await road.until("echo", is_ready)
        with road.namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            sock.settimeout(5)
            sock.connect((shown.status.pod_ip, 8080))
            sock.sendall(b"hello\n")
            answer = sock.recv(4096)
    assert b'"pod": "echo"' in answer and b'"node": "node-1"' in answer and b'"address": "10.100.0.2"' in answer


async def test_two_pods_of_a_node_reach_each_other_through_it() -> None:
    async with node_road() as road:
        await road.apply(manifest("echo", echo({"tcpSocket": {"port": 8080}})))
        address = (await road.until("echo", is_ready)).status.pod_ip
        script = f"exec 3<>/dev/tcp/{address}/8080; echo hi >&3; read -r line <&3; echo $line | grep -o '10.0.1.3'"
        asks = {"name": "main", "image": "shell", "command": ["/bin/bash", "-c", script]}
        await road.apply(manifest("asks", asks, restartPolicy="Never"))
        assert (
            await road.until("asks", lambda p: p.status.phase in ("Succeeded", "Failed"))
        ).status.phase == "Succeeded"


async def test_environment_volumes_and_arguments() -> None:
    async with node_road() as road:
        conf = {"metadata": {"name": "conf"}, "data": {"colour": "blue", "a.txt": "text"}}
        await road.client.create(ConfigMap, conf, "default")
        await road.client.create(Secret, {"metadata": {"name": "keys"}, "data": {"token": "czNjcmV0"}}, "default")
        script = """test "$IP" = 10.0.1.2 && test "$C" = blue && test "$1" = from-blue &&
        cat /conf/a.txt && cat /keys/token && touch /e/x"""
        container = {
            "name": "main",
            "image": "shell",
            "command": ["/bin/sh", "-c", script],
            "args": ["sh", "from-$(C)"],
            "env": [
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "colour"}}},
            ],
            "volumeMounts": [
                {"name": "conf", "mountPath": "/conf"},
                {"name": "keys", "mountPath": "/keys", "readOnly": True},
                {"name": "empty", "mountPath": "/e"},
            ],
        }
        volumes = [
            {"name": "conf", "configMap": {"name": "conf"}},
            {"name": "keys", "secret": {"secretName": "keys"}},
            {"name": "empty", "emptyDir": {}},
        ]
        await road.apply(manifest("job", container, restartPolicy="Never", volumes=volumes))
        assert (
            await road.until("job", lambda p: p.status.phase in ("Succeeded", "Failed"))
        ).status.phase == "Succeeded"


async def test_what_is_missing_is_said_and_tried_again() -> None:
    async with node_road() as road:
        env_from = [{"configMapRef": {"name": "late"}}]
        await road.apply(manifest("web", shell(FOREVER, envFrom=env_from)))
        shown = await road.until("web", lambda p: waits(p, "CreateContainerConfigError"))
        waiting = only(shown).state.waiting
        assert waiting is not None and waiting.message == 'configmap "late" not found'
        volume = [{"name": "v", "configMap": {"name": "late"}}]
        await road.apply(manifest("mounts", shell(FOREVER), volumes=volume))
        (event, *_) = await road.events("FailedMount")
        assert event.message == 'volume "v": configmap "late" not found'
        await road.client.create(ConfigMap, {"metadata": {"name": "late"}, "data": {"A": "1"}}, "default")
        await road.until("mounts", is_ready)
        await road.until("web", is_ready)


async def test_an_unknown_image() -> None:
    async with node_road() as road:
        await road.apply(manifest("web", {"name": "main", "image": "nginx:1.25"}))
        shown = await road.until("web", lambda p: waits(p, "ErrImagePull") or waits(p, "ImagePullBackOff"))
        waiting = only(shown).state.waiting
        assert shown.status.phase == "Pending"
        assert waiting is not None and "portway up --image nginx=COMMAND" in waiting.message
        assert "portway up --image nginx=COMMAND" in (await road.events("Failed"))[0].message
        await road.until("web", lambda p: waits(p, "ImagePullBackOff"))


async def test_a_crash_loop() -> None:
    async with node_road() as road:
        await road.apply(manifest("web", shell("exit 3")))
        shown = await road.until("web", lambda p: waits(p, "CrashLoopBackOff"))
        last = only(shown).last_state.terminated
        assert last is not None and (last.exit_code, last.reason) == (3, "Error")
        assert not is_ready(shown)
        await road.until("web", lambda p: only(p).restart_count >= 3)


async def test_a_program_that_is_not_there() -> None:
    async with node_road() as road:
        await road.apply(
            manifest("web", {"name": "main", "image": "x", "command": ["/no/such"]}, restartPolicy="Never")
        )
        shown = await road.until("web", lambda p: p.status.phase == "Failed")
        ended = only(shown).state.terminated
        assert ended is not None and (ended.exit_code, ended.reason) == (128, "StartError")
        assert "exec /no/such: No such file" in ended.message


async def test_init_containers_sidecars_and_completion() -> None:
    async with node_road() as road:
        mounts = [{"name": "work", "mountPath": "/work"}]
        init = [
            shell("echo one > /work/log", name="first", volumeMounts=mounts),
            shell("trap 'exit 0' TERM; while :; do sleep 0.01; done", name="side", restartPolicy="Always"),
            shell("echo two >> /work/log", name="second", volumeMounts=mounts),
        ]
        main = shell("test \"$(cat /work/log | tr '\\n' ' ')\" = 'one two '", volumeMounts=mounts)
        await road.apply(
            manifest(
                "job", main, initContainers=init, restartPolicy="Never", volumes=[{"name": "work", "emptyDir": {}}]
            )
        )
        shown = await road.until("job", lambda p: p.status.phase in ("Succeeded", "Failed"))
        assert shown.status.phase == "Succeeded"
        assert [s.name for s in shown.status.init_container_statuses or ()] == ["first", "side", "second"]
        assert (conditions(shown)["Initialized"], conditions(shown)["Ready"]) == ("True", "False")


async def test_a_pod_whose_init_container_fails() -> None:
    async with node_road() as road:
        await road.apply(
            manifest("job", shell("exit 0"), initContainers=[shell("exit 9", name="first")], restartPolicy="Never")
        )
        shown = await road.until("job", lambda p: p.status.phase == "Failed")
        waiting = only(shown).state.waiting
        assert waiting is not None and waiting.reason == "PodInitializing"
        assert conditions(shown)["Initialized"] == "False"


async def test_readiness_follows_the_probe_both_ways() -> None:
    async with node_road() as road:
        probe = {"exec": {"command": ["test", "-e", "/ok"]}, "periodSeconds": 1, "failureThreshold": 1}
        script = "trap 'rm -f /ok' USR1; trap 'touch /ok' USR2; touch /ok; while :; do sleep 0.01; done"
        await road.apply(manifest("web", shell(script, readinessProbe=probe)))
        shown = await road.until("web", is_ready)
        worker = road.agent.workers[shown.metadata.uid]
        run = worker.keepers["main"].run
        assert run is not None and worker.sandbox is not None
        worker.sandbox.signal(run, signal.SIGUSR1)
        shown = await road.until("web", not_ready)
        assert (only(shown).restart_count, shown.status.phase) == (0, "Running")
        assert "Readiness probe failed" in (await road.events("Unhealthy"))[0].message
        worker.sandbox.signal(run, signal.SIGUSR2)
        await road.until("web", is_ready)


async def test_a_failed_liveness_probe_restarts_the_container() -> None:
    async with node_road() as road:
        probe = {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1}
        await road.apply(manifest("web", shell(FOREVER, livenessProbe=probe)))
        shown = await road.until("web", lambda p: bool(p.status.container_statuses) and only(p).restart_count >= 1)
        ended = only(shown).last_state.terminated
        assert ended is not None and ended.exit_code == 143
        assert any("liveness probe failed" in e.message for e in await road.events("Killing"))


async def test_nothing_is_ready_before_startup_has_passed() -> None:
    async with node_road() as road:
        startup = {"exec": {"command": ["test", "-e", "/started"]}, "periodSeconds": 1, "failureThreshold": 30}
        script = "trap 'touch /started' USR1; while :; do sleep 0.01; done"
        await road.apply(manifest("web", shell(script, startupProbe=startup)))
        shown = await road.until("web", lambda p: p.status.phase == "Running")
        assert not is_ready(shown) and only(shown).started is not True
        worker = road.agent.workers[shown.metadata.uid]
        run = worker.keepers["main"].run
        assert run is not None and worker.sandbox is not None
        worker.sandbox.signal(run, signal.SIGUSR1)
        assert only(await road.until("web", is_ready)).started is True


async def test_hooks_run_in_the_container(tmp_path: Path) -> None:
    async with node_road() as road:
        hooks = {
            "postStart": {"exec": {"command": ["sh", "-c", "echo post >> /out/story"]}},
            "preStop": {"exec": {"command": ["sh", "-c", "echo pre >> /out/story"]}},
        }
        script = "trap 'echo term >> /out/story; exit 0' TERM; while :; do sleep 0.01; done"
        container = shell(script, lifecycle=hooks, volumeMounts=[{"name": "out", "mountPath": "/out"}])
        await road.apply(manifest("web", container, volumes=[{"name": "out", "hostPath": {"path": str(tmp_path)}}]))
        await road.until("web", is_ready)
        await road.client.delete(Pod, "web", "default")
        await road.until_gone("web")
    assert (tmp_path / "story").read_text() == "post\npre\nterm\n"


async def test_a_deleted_pod_ends_in_order_and_leaves_nothing() -> None:
    async with node_road() as road:
        await road.apply(manifest("web", shell("trap '' TERM; while :; do sleep 0.01; done")))
        shown = await road.until("web", is_ready)
        task = road.agent._tasks[shown.metadata.uid]
        await road.client.delete(Pod, "web", "default", grace_seconds=1)
        shown = await road.until("web", lambda p: p.metadata.deletion_timestamp is not None)
        assert is_ready(shown), "a pod that ends is ready until it has ended"
        await road.until_gone("web")
        await link_gone(road, shown)
        await asyncio.wait_for(asyncio.wait([task]), 5)
        assert road.agent.workers == {}
        assert not (road.state / "pods" / shown.metadata.uid).exists()


async def test_a_pod_whose_object_vanishes_is_ended_at_once() -> None:
    async with node_road() as road:
        await road.apply(manifest("web", shell("trap '' TERM; while :; do sleep 0.01; done")))
        shown = await road.until("web", is_ready)
        task = road.agent._tasks[shown.metadata.uid]
        await road.client.delete(Pod, "web", "default", grace_seconds=0)
        await asyncio.wait_for(asyncio.wait([task]), 10)
        await link_gone(road, shown)


async def test_pods_that_went_leave_no_descriptor_and_no_task() -> None:
    async with node_road() as road:

        async def live_and_go(name: str) -> None:
            await road.apply(manifest(name, shell(FOREVER, readinessProbe={"exec": {"command": ["true"]}})))
            shown = await road.until(name, is_ready)
            task = road.agent._tasks[shown.metadata.uid]
            await road.client.delete(Pod, name, "default")
            await road.until_gone(name)
            await asyncio.wait([task])
            await link_gone(road, shown)

        await live_and_go("first")
        files, tasks = len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())
        for number in range(3):
            await live_and_go(f"web-{number}")
        assert (
            len(os.listdir("/proc/self/fd")) <= files + 1
        )  # a connection of the client may have been opened or closed
        assert len(asyncio.all_tasks()) <= tasks + 3


async def test_host_network_pods_share_the_node() -> None:
    async with node_road() as road:
        script = "grep -q eth0 /proc/net/dev && test $(hostname) = node-1"
        await road.apply(manifest("agent", shell(script), hostNetwork=True, restartPolicy="Never"))
        shown = await road.until("agent", lambda p: p.status.phase in ("Succeeded", "Failed"))
        assert (shown.status.phase, shown.status.pod_ip) == ("Succeeded", NODE_ADDRESS)


async def test_other_nodes_pods_are_routed() -> None:
    async with node_road() as road:
        await road.client.create(Node, {"metadata": {"name": "node-2"}, "spec": {"podCIDR": "10.0.2.0/24"}})
        address = {"status": {"addresses": [{"type": "InternalIP", "address": "10.100.0.3"}]}}
        await road.client.patch_status(Node, "node-2", address)
        wanted = Route("10.0.2.0/24", via="10.100.0.3", link="eth0")
        async with asyncio.timeout(5):
            while road.namespace.routes().get(wanted) != Owner.NODE_ROUTES:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert road.namespace.sysctl("net.ipv4.ip_forward") == "1"
        await road.client.delete(Node, "node-2")
        async with asyncio.timeout(5):
            while wanted in road.namespace.routes():  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_a_killed_sandbox_is_made_anew() -> None:
    async with node_road() as road:
        await road.apply(manifest("web", shell(FOREVER)))
        shown = await road.until("web", is_ready)
        sandbox = road.agent.workers[shown.metadata.uid].sandbox
        assert sandbox is not None
        sandbox.close()
        shown = await road.until("web", lambda p: is_ready(p) and only(p).restart_count == 1)
        assert road.agent.workers[shown.metadata.uid].sandbox is not sandbox


async def test_an_agent_whose_pods_are_killed_from_outside_fails_and_says_why() -> None:
    async with node_road() as road:
        os.kill(road.agent._context.host.pid, signal.SIGKILL)
        await asyncio.wait_for(asyncio.wait([road.task]), 10)
        with pytest.RaisesGroup(pytest.RaisesExc(RuntimeRefused, match="the pods of node node-1 has ended")):
            road.task.result()


async def test_the_pod_of_the_road() -> None:
    """The container of the first step: bash, $(hostname), and a file server that the machine's Python runs."""
    async with node_road() as road:
        script = 'echo "<p>Hello from $(hostname)</p>" > index.html; exec python3 -m http.server 8080'
        container = {
            "name": "main",
            "image": "python:3.11",
            "command": ["/bin/bash", "-c", script],
            "ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"port": "http"}},
        }
        await road.apply(manifest("service-demo-1", container))
        shown = await road.until("service-demo-1", is_ready)
        with road.namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            sock.settimeout(5)
            sock.connect((shown.status.pod_ip, 8080))
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            answer = b""
            while piece := sock.recv(4096):
                answer += piece
        assert answer.endswith(b"<p>Hello from service-demo-1</p>\n")
        await road.client.delete(Pod, "service-demo-1", "default")
        await road.until_gone("service-demo-1", seconds=4)  # it does not wait for the grace period: SIGTERM ends it


async def test_crash_and_start_again(tmp_path: Path) -> None:
    """A node that loses its power and comes back: its pods run again, which counts as a restart, and nothing is left."""
    with node_namespace() as namespace:
        async with api_server(tmp_path) as (_, client):
            await client.create(Pod, manifest("web", shell(FOREVER)), "default")
            restarts = []
            for _life in range(2):
                agent = new_agent(client, namespace, tmp_path)
                task = asyncio.create_task(agent.run())
                await give_cidr(client, task)
                async with asyncio.timeout(10):
                    while not any(k.unit.ready for w in agent.workers.values() for k in w.keepers.values()):  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                    (worker,) = agent.workers.values()
                    while not is_ready(await client.get(Pod, "web", "default")):  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                await agent.crash()
                restarts.append(worker.keepers["main"].unit.restarts)
                assert task.done() and agent.workers == {}
                assert [r.destination for r in namespace.routes() if r.destination.endswith("/32")] == []
            assert restarts == [0, 1]


def new_agent(client: Client, namespace: Namespace, folder: Path) -> NodeAgent:
    config = AgentConfig(state=folder / "node-1")
    return NodeAgent(
        "node-1", client=client, namespace=namespace, address=NODE_ADDRESS, config=config, clock=SystemClock()
    )


async def test_stop_gives_containers_a_chance(tmp_path: Path) -> None:
    async with node_road() as road:
        script = "trap 'touch /out/farewell; exit 0' TERM; touch /out/up; while :; do sleep 0.01; done"
        container = shell(script, volumeMounts=[{"name": "out", "mountPath": "/out"}])
        await road.apply(manifest("web", container, volumes=[{"name": "out", "hostPath": {"path": str(tmp_path)}}]))
        async with asyncio.timeout(10):
            while not (tmp_path / "up").exists():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await road.agent.stop(graceful=True)
        assert road.task.done()
        assert await road.get("web") is not None
    assert (tmp_path / "farewell").exists()


async def test_a_state_folder_that_cannot_be_used_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    with node_namespace() as namespace:
        async with api_server(tmp_path) as (_, client):
            agent = new_agent(client, namespace, tmp_path / "file")
            with pytest.raises(StateUnusable, match="the state folder"):
                await agent.run()
    assert (tmp_path / "file").read_text() == "precious"
