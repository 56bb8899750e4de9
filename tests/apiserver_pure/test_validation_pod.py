"""Pods and pod templates that Kubernetes would refuse, and its sentences."""

from __future__ import annotations

import copy
from decimal import Decimal
from typing import Any

import pytest

from build_pure import container, deployment, pod, problems
from portway.apiserver.validation.containers import quantity

Json = dict[str, Any]
C = "spec.containers[0]"
EMPTY_DIR = [{"name": "v", "emptyDir": {}}]


def with_container(**fields: Any) -> Json:
    return pod(container(**fields))


def probe(**fields: Any) -> Json:
    return with_container(readinessProbe=fields)


ROWS: list[tuple[str, Json, list[str]]] = [
    ("the plainest pod", pod(), []),
    ("no containers", pod(containers=[]), ["spec.containers: Required value"]),
    ("no name", with_container(name=""), [f"{C}.name: Required value"]),
    ("no image", with_container(image=""), [f"{C}.image: Required value"]),
    (
        "an image with a space in front",
        with_container(image=" a"),
        [f'{C}.image: Invalid value: " a": must not have leading or trailing whitespace'],
    ),
    ("two containers of one name", pod(container(), container()), ['spec.containers[1].name: Duplicate value: "c"']),
    (
        "an init container with the name of a container",
        pod(container(), initContainers=[container()]),
        [f'{C}.name: Duplicate value: "c"'],
    ),
    (
        "a port without a number",
        with_container(ports=[{"name": "http"}]),
        [f"{C}.ports[0].containerPort: Required value"],
    ),
    (
        "a port beyond the range",
        with_container(ports=[{"containerPort": 70000}]),
        [f"{C}.ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive"],
    ),
    (
        "two ports of one name",
        with_container(ports=[{"name": "a", "containerPort": 1}, {"name": "a", "containerPort": 2}]),
        [f'{C}.ports[1].name: Duplicate value: "a"'],
    ),
    (
        "one host port twice",
        with_container(ports=[{"containerPort": 1, "hostPort": 9}, {"containerPort": 2, "hostPort": 9}]),
        [f'{C}.ports[1].hostPort: Duplicate value: "TCP//9"'],
    ),
    (
        "a host port that differs in the node's network",
        pod(container(ports=[{"containerPort": 1, "hostPort": 9}]), hostNetwork=True),
        [f"{C}.ports[0].containerPort: Invalid value: 1: must match `hostPort` when `hostNetwork` is true"],
    ),
    ("a pod of the node's network", pod(container(ports=[{"containerPort": 1}]), hostNetwork=True), []),
    ("a variable without a name", with_container(env=[{"value": "x"}]), [f"{C}.env[0].name: Required value"]),
    (
        "a variable with = in its name",
        with_container(env=[{"name": "A=B"}]),
        [
            f'{C}.env[0].name: Invalid value: "A=B": a valid environment variable name must consist only of printable ASCII '
            "characters other than '='"
        ],
    ),
    (
        "a variable with a value from nowhere",
        with_container(env=[{"name": "A", "valueFrom": {}}]),
        [
            f'{C}.env[0].valueFrom: Invalid value: "": must specify one of: `fieldRef`, `resourceFieldRef`, '
            "`configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        ],
    ),
    (
        "a variable with two values",
        with_container(env=[{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]),
        [f'{C}.env[0].valueFrom: Invalid value: "": may not be specified when `value` is not empty'],
    ),
    (
        "variables from nowhere",
        with_container(envFrom=[{"prefix": "a"}]),
        [f'{C}.envFrom[0]: Invalid value: "": must specify one of: `configMapRef` or `secretRef`'],
    ),
    (
        "a mount of a volume that is not there",
        with_container(volumeMounts=[{"name": "v", "mountPath": "/v"}]),
        [f'{C}.volumeMounts[0].name: Not found: "v"'],
    ),
    (
        "two mounts at one place",
        pod(container(volumeMounts=[{"name": "v", "mountPath": "/v"}] * 2), volumes=EMPTY_DIR),
        [f'{C}.volumeMounts[1].mountPath: Invalid value: "/v": must be unique'],
    ),
    (
        "a mount out of its volume",
        pod(container(volumeMounts=[{"name": "v", "mountPath": "/v", "subPath": "../x"}]), volumes=EMPTY_DIR),
        [f"{C}.volumeMounts[0].subPath: Invalid value: \"../x\": must not contain '..'"],
    ),
    ("two volumes of one name", pod(volumes=EMPTY_DIR * 2), ['spec.volumes[1].name: Duplicate value: "v"']),
    (
        "a volume with two sources",
        pod(volumes=[{"name": "v", "emptyDir": {}, "secret": {"secretName": "s"}}]),
        ["spec.volumes[0].secret: Forbidden: may not specify more than 1 volume type"],
    ),
    (
        "a volume of a secret without its name",
        pod(volumes=[{"name": "v", "secret": {}}]),
        ["spec.volumes[0].secret.secretName: Required value"],
    ),
    ("a probe that does nothing", probe(), [f"{C}.readinessProbe: Required value: must specify a handler type"]),
    (
        "a probe that does two things",
        probe(exec={"command": ["a"]}, tcpSocket={"port": 1}),
        [f"{C}.readinessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type"],
    ),
    ("a probe by a port's name", probe(httpGet={"port": "http"}), []),
    (
        "a probe of no port",
        probe(httpGet={"path": "/"}),
        [f"{C}.readinessProbe.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive"],
    ),
    (
        "a probe by another scheme",
        probe(httpGet={"port": 1, "scheme": "FTP"}),
        [f'{C}.readinessProbe.httpGet.scheme: Unsupported value: "FTP": supported values: "HTTP", "HTTPS"'],
    ),
    ("a probe of no command", probe(exec={}), [f"{C}.readinessProbe.exec.command: Required value"]),
    (
        "a probe in negative time",
        probe(tcpSocket={"port": 1}, initialDelaySeconds=-1),
        [f"{C}.readinessProbe.initialDelaySeconds: Invalid value: -1: must be greater than or equal to 0"],
    ),
    (
        "a liveness probe that must succeed twice",
        with_container(livenessProbe={"tcpSocket": {"port": 1}, "successThreshold": 2}),
        [f"{C}.livenessProbe.successThreshold: Invalid value: 2: must be 1"],
    ),
    (
        "a hook that does nothing",
        with_container(lifecycle={"preStop": {}}),
        [f"{C}.lifecycle.preStop: Required value: must specify a handler type"],
    ),
    ("a hook that sleeps", with_container(lifecycle={"preStop": {"sleep": {"seconds": 1}}}), []),
    (
        "an init container with a probe",
        pod(container(), initContainers=[container(name="i", readinessProbe={"tcpSocket": {"port": 1}})]),
        [
            "spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without "
            "restartPolicy=Always"
        ],
    ),
    (
        "a sidecar with a probe",
        pod(
            container(),
            initContainers=[container(name="i", restartPolicy="Always", startupProbe={"tcpSocket": {"port": 1}})],
        ),
        [],
    ),
    (
        "a request beyond its limit",
        with_container(resources={"requests": {"cpu": "2"}, "limits": {"cpu": "1500m"}}),
        [f'{C}.resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1500m'],
    ),
    (
        "an unknown restart policy",
        pod(restartPolicy="Sometimes"),
        ['spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "Never", "OnFailure"'],
    ),
    (
        "an unknown pull policy",
        with_container(imagePullPolicy="Once"),
        [f'{C}.imagePullPolicy: Unsupported value: "Once": supported values: "Always", "IfNotPresent", "Never"'],
    ),
    (
        "names from nowhere",
        pod(dnsPolicy="None"),
        [
            "spec.dnsConfig.nameservers: Required value: must provide at least one DNS nameserver when `dnsPolicy` is None"
        ],
    ),
    (
        "a negative grace period",
        pod(terminationGracePeriodSeconds=-1),
        ["spec.terminationGracePeriodSeconds: Invalid value: -1: must be greater than or equal to 0"],
    ),
    (
        "a deadline of nothing",
        pod(activeDeadlineSeconds=0),
        ["spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive"],
    ),
    (
        "a toleration of nothing in particular",
        pod(tolerations=[{"operator": "Equal"}]),
        [
            'spec.tolerations[0].operator: Invalid value: "Equal": operator must be Exists when `key` is empty, which means '
            '"match all values and all keys"'
        ],
    ),
    ("a toleration of everything", pod(tolerations=[{"operator": "Exists"}]), []),
    (
        "a toleration for a time of an effect that does not end",
        pod(tolerations=[{"key": "a", "operator": "Exists", "effect": "NoSchedule", "tolerationSeconds": 1}]),
        [
            "spec.tolerations[0].effect: Invalid value: \"NoSchedule\": effect must be 'NoExecute' when `tolerationSeconds` "
            "is set"
        ],
    ),
    (
        "a host alias that is no address",
        pod(hostAliases=[{"ip": "x", "hostnames": ["a"]}]),
        ['spec.hostAliases[0].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)'],
    ),
]


@pytest.mark.parametrize(("obj", "sentences"), [pytest.param(o, e, id=s) for s, o, e in ROWS])
def test_a_new_pod(obj: Json, sentences: list[str]) -> None:
    assert problems(obj) == sentences


def changed(**spec: Any) -> Json:
    return pod(**spec)


MAY_NOT = "spec: Forbidden: pod updates may not change fields other than"
TOLERATION = {"key": "a", "operator": "Exists"}
UPDATES: list[tuple[str, Json, Json, str, list[str]]] = [
    ("nothing changes", pod(), pod(), "", []),
    ("another image", pod(container(image="b:2")), pod(), "", []),
    ("no image", pod(container(image="")), pod(container(imagePullPolicy="Always")), "", [f"{C}.image: Required value"]),
    ("another command", pod(container(command=["x"])), pod(), "", [MAY_NOT]),
    ("another node", pod(nodeName="n"), pod(), "", [MAY_NOT]),
    ("the scheduler chooses a node", pod(nodeName="n"), pod(), "binding", []),
    ("a container more", pod(container(), container(name="d")), pod(), "", [
        "spec.containers: Forbidden: pod updates may not add or remove containers"
    ]),
    ("a toleration more", pod(tolerations=[TOLERATION]), pod(), "", []),
    ("a toleration less", pod(), pod(tolerations=[TOLERATION]), "", [
        "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"
    ]),
    ("a deadline", pod(activeDeadlineSeconds=5), pod(), "", []),
    ("a later deadline", pod(activeDeadlineSeconds=6), pod(activeDeadlineSeconds=5), "", [
        "spec.activeDeadlineSeconds: Invalid value: 6: must be less than or equal to previous value 5"
    ]),
    ("no deadline any more", pod(), pod(activeDeadlineSeconds=5), "", [
        "spec.activeDeadlineSeconds: Invalid value: null: must not update from a positive integer to nil value"
    ]),
    ("an ephemeral container", pod(ephemeralContainers=[container(name="e")]), pod(), "ephemeralcontainers", []),
    ("the status may say anything", pod(nodeName="n"), pod(), "status", []),
]  # fmt: skip


@pytest.mark.parametrize(
    ("new", "old", "subresource", "sentences"), [pytest.param(n, o, u, e, id=s) for s, n, o, u, e in UPDATES]
)
def test_an_update_of_a_pod(new: Json, old: Json, subresource: str, sentences: list[str]) -> None:
    found = problems(new, old, subresource)
    assert len(found) == len(sentences)
    assert all(f.startswith(s) for f, s in zip(found, sentences, strict=True))


def strategy(**rolling: Any) -> Json:
    return deployment(strategy={"type": "RollingUpdate", "rollingUpdate": rolling})


def templated(**template: Any) -> Json:
    obj = copy.deepcopy(deployment())
    obj["spec"]["template"] |= template
    return obj


ROLLING = "spec.strategy.rollingUpdate"
DEPLOYMENTS: list[tuple[str, Json, list[str]]] = [
    ("the plainest Deployment", deployment(), []),
    ("no selector", deployment(selector=None), ["spec.selector: Required value"]),
    ("an empty selector", deployment(selector={}), [
        "spec.selector: Invalid value: {}: empty selector is invalid for deployment"
    ]),
    ("a selector that chooses other pods", deployment(selector={"matchLabels": {"app": "x"}}), [
        'spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`'
    ]),
    ("a selector by expressions",
     deployment(selector={"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}), []),
    ("a selector with an unknown operator", deployment(selector={"matchExpressions": [{"key": "app", "operator": "Like"}]}), [
        'spec.selector.matchExpressions[0].operator: Invalid value: "Like": not a valid selector operator'
    ]),
    ("less than no replicas", deployment(replicas=-1), [
        "spec.replicas: Invalid value: -1: must be greater than or equal to 0"
    ]),
    ("neither more nor fewer pods while rolling", strategy(maxSurge=0, maxUnavailable=0), [
        f"{ROLLING}.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"
    ]),
    ("more than all pods away", strategy(maxUnavailable="101%"), [
        f'{ROLLING}.maxUnavailable: Invalid value: "101%": must not be greater than 100%'
    ]),
    ("twice as many pods", strategy(maxSurge="200%"), []),
    ("a share without a sign", strategy(maxSurge="5"), [
        f"{ROLLING}.maxSurge: Invalid value: \"5\": a valid percent string must be a numeric string followed by an ending "
        "'%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')"
    ]),
    ("an unknown strategy", deployment(strategy={"type": "Blue"}), [
        'spec.strategy.type: Unsupported value: "Blue": supported values: "Recreate", "RollingUpdate"'
    ]),
    ("a rolling update that recreates", deployment(strategy={"type": "Recreate", "rollingUpdate": {}}), [
        f"{ROLLING}: Forbidden: may not be specified when strategy `type` is 'Recreate'"
    ]),
    ("a deadline before pods count as ready", deployment(progressDeadlineSeconds=5, minReadySeconds=5), [
        "spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds"
    ]),
    ("pods that end", templated(spec={"containers": [container()], "restartPolicy": "Never"}), [
        'spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"'
    ]),
    ("a template without containers", templated(spec={}), ["spec.template.spec.containers: Required value"]),
]  # fmt: skip


@pytest.mark.parametrize(("obj", "sentences"), [pytest.param(o, e, id=s) for s, o, e in DEPLOYMENTS])
@pytest.mark.parametrize("kind", ["Deployment", "ReplicaSet"])
def test_what_makes_pods(kind: str, obj: Json, sentences: list[str]) -> None:
    """A ReplicaSet has no strategy and no deadline: those rows are about Deployments alone."""
    expected = (
        sentences if kind == "Deployment" else [s for s in sentences if "trategy" not in s and "progress" not in s]
    )
    assert problems(obj | {"kind": kind}) == expected


def test_a_selector_cannot_change() -> None:
    found = problems(deployment(selector={"matchExpressions": [{"key": "app", "operator": "Exists"}]}), deployment())
    assert found == [
        'spec.selector: Invalid value: {"matchExpressions":[{"key":"app","operator":"Exists"}]}: field is immutable'
    ]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1", "1"),
        ("500m", "0.5"),
        ("1Ki", "1024"),
        ("1k", "1000"),
        ("2Gi", "2147483648"),
        ("1e3", "1000"),
        (".5", "0.5"),
    ],
)
def test_quantities(text: str, number: str) -> None:
    assert quantity(text) == Decimal(number)
