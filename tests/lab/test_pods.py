"""Pods as users write them: several containers, environment, probes, restarts, logs, exec, images that nobody mapped."""

from __future__ import annotations

import json
from typing import Any

import pytest

from build_manifests import Object, echo_deployment
from lab_driver import Lab

pytestmark = pytest.mark.lab


def pod(name: str, *containers: Object, **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": list(containers), "terminationGracePeriodSeconds": 1, **spec},
    }


def shell(name: str, script: str, **fields: Any) -> Object:
    return {"name": name, "image": "bash", "command": ["/bin/bash", "-c", script], **fields}


def test_two_containers_share_the_network_and_nothing_on_disk(lab: Lab, namespace: str) -> None:
    written = {"exec": {"command": ["test", "-f", "/mine"]}, "periodSeconds": 1}
    web = shell(
        "web", "echo one > /mine; exec python3 -m http.server 8080", image="python:3.11", readinessProbe=written
    )
    side = shell("side", "echo two > /mine; exec sleep 1000", readinessProbe=written)
    lab.apply(namespace, pod("pair", web, side))
    lab.kubectl("wait", "-n", namespace, "pod/pair", "--for=condition=Ready", "--timeout=20s")
    mine = {c: lab.kubectl("exec", "-n", namespace, "pair", "-c", c, "--", "cat", "/mine") for c in ("web", "side")}
    assert mine == {"web": "one\n", "side": "two\n"}
    ask = "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8080); c.request('GET', '/'); print(c.getresponse().status)"
    lab.eventually(
        "localhost is shared",
        lambda: (
            lab.portway("exec", f"pod/{namespace}/pair/web", "--", "python3", "-c", ask, check=False).stdout.strip()
            == "200"
        ),
    )


def test_environment_comes_from_values_fields_config_maps_and_secrets(lab: Lab, namespace: str) -> None:
    lab.kubectl("create", "configmap", "settings", "-n", namespace, "--from-literal=colour=blue")
    lab.kubectl("create", "secret", "generic", "keys", "-n", namespace, "--from-literal=token=s3cret")
    env = [
        {"name": "PLAIN", "value": "x"},
        {"name": "COMPOSED", "value": "$(PLAIN)y"},
        {"name": "ME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "COLOUR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "colour"}}},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "token"}}},
    ]
    script = 'echo "$PLAIN $COMPOSED $ME $IP $COLOUR $TOKEN"; exec sleep 1000'
    lab.apply(namespace, pod("env", shell("c", script, env=env)))
    lab.kubectl("wait", "-n", namespace, "pod/env", "--for=condition=Ready", "--timeout=20s")
    ip = lab.get("pod", "env", "-n", namespace)["status"]["podIP"]
    lab.eventually(
        "the log has the line", lambda: lab.kubectl("logs", "-n", namespace, "env") == f"x xy env {ip} blue s3cret\n"
    )


def test_a_failing_container_is_restarted_with_back_off_and_says_so(lab: Lab, namespace: str) -> None:
    lab.apply(namespace, pod("crash", shell("c", "echo tried; exit 3")))
    lab.eventually(
        "restarted, then backing off",
        lambda: lab.kubectl("get", "pod", "crash", "-n", namespace, "--no-headers").split()[2] == "CrashLoopBackOff",
    )
    status = lab.get("pod", "crash", "-n", namespace)["status"]["containerStatuses"][0]
    assert status["lastState"]["terminated"]["exitCode"] == 3
    assert status["restartCount"] >= 1
    assert lab.kubectl("logs", "-n", namespace, "crash", "--previous") == "tried\n"


def test_a_failing_liveness_probe_restarts_the_container(lab: Lab, namespace: str) -> None:
    probe = {
        "exec": {"command": ["test", "-f", "/alive"]},
        "periodSeconds": 1,
        "failureThreshold": 1,
        "initialDelaySeconds": 1,
    }
    lab.apply(namespace, pod("weak", shell("c", "exec sleep 1000", livenessProbe=probe)))
    lab.eventually(
        "killed and started again",
        lambda: (
            lab.get("pod", "weak", "-n", namespace)["status"].get("containerStatuses", [{}])[0].get("restartCount", 0)
            >= 1
        ),
    )
    assert "Unhealthy" in lab.kubectl("describe", "pod", "weak", "-n", namespace)


def test_a_job_like_pod_completes(lab: Lab, namespace: str) -> None:
    lab.apply(namespace, pod("once", shell("c", "echo done"), restartPolicy="Never"))
    lab.kubectl("wait", "-n", namespace, "pod/once", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=20s")
    assert lab.kubectl("get", "pod", "once", "-n", namespace, "--no-headers").split()[2] == "Completed"


def test_an_unknown_image_without_a_command_says_how_to_map_it(lab: Lab, namespace: str) -> None:
    lab.apply(namespace, pod("stranger", {"name": "c", "image": "registry.example/never:1"}))
    lab.eventually(
        "it waits",
        lambda: (
            lab.kubectl("get", "pod", "stranger", "-n", namespace, "--no-headers").split()[2]
            in {"ErrImagePull", "ImagePullBackOff"}
        ),
    )
    assert "portway up --image registry.example/never=COMMAND" in lab.kubectl(
        "describe", "pod", "stranger", "-n", namespace
    )


def test_exec_passes_streams_and_exit_codes(lab: Lab, namespace: str) -> None:
    lab.apply(namespace, pod("box", shell("c", "exec sleep 1000")))
    lab.kubectl("wait", "-n", namespace, "pod/box", "--for=condition=Ready", "--timeout=20s")
    assert lab.kubectl("exec", "-i", "-n", namespace, "box", "--", "cat", stdin="hello\n") == "hello\n"
    done = lab.kubectl_run("exec", "-n", namespace, "box", "--", "bash", "-c", "echo oops >&2; exit 7")
    assert done.returncode == 7
    assert "oops" in done.stderr


def test_termination_waits_for_pre_stop_and_then_sends_sigterm(lab: Lab, namespace: str) -> None:
    script = "trap 'echo term; exit 0' TERM; echo up; while true; do sleep 0.05; done"
    hook = {"preStop": {"exec": {"command": ["/bin/bash", "-c", "echo stopping > /proc/1/root/dev/null"]}}}
    lab.apply(namespace, pod("polite", shell("c", script, lifecycle=hook), terminationGracePeriodSeconds=20))
    lab.kubectl("wait", "-n", namespace, "pod/polite", "--for=condition=Ready", "--timeout=20s")
    lab.kubectl("delete", "pod", "polite", "-n", namespace, "--timeout=15s")


def test_echo_answers_with_what_it_saw(lab: Lab, namespace: str) -> None:
    lab.apply(namespace, echo_deployment("echo", replicas=1))
    lab.rolled_out(namespace, "echo")
    (it,) = lab.pods(namespace)
    (seen,) = lab.request("node-1", f"http://{it['status']['podIP']}:8080/some/path").echoes()
    assert seen["pod"] == it["metadata"]["name"]
    assert seen["namespace"] == namespace
    assert seen["node"] == it["spec"]["nodeName"]
    assert seen["method"] == "GET"
    assert seen["path"] == "/some/path"
    assert seen["host"].startswith(it["status"]["podIP"])
    assert set(seen["source"]) == {"address", "port"}


@pytest.mark.parametrize(
    ("manifest", "says"),
    [
        ("{ not json", "error"),
        (
            json.dumps({"apiVersion": "v1", "kind": "Nonsense", "metadata": {"name": "x"}}),
            'no matches for kind "Nonsense"',
        ),
        (json.dumps(pod("x")), "spec.containers: Required value"),
        (json.dumps(pod("Upper_Case", shell("c", "true"))), "metadata.name: Invalid value"),
        (
            json.dumps(pod("x", {"name": "c", "image": "i", "imagee": "typo"})),
            'unknown field "spec.containers[0].imagee"',
        ),
    ],
)
def test_bad_manifests_get_kubernetes_answers(lab: Lab, namespace: str, manifest: str, says: str) -> None:
    done = lab.kubectl_run("create", "-n", namespace, "-f", "-", stdin=manifest)
    assert done.returncode != 0
    assert says in done.stderr
