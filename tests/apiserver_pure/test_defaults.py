"""What a short manifest becomes: the whole defaulted object, and that defaulting again changes nothing."""

from __future__ import annotations

import base64
import copy
from typing import Any

import pytest

from build_pure import container, defaulted, deployment, plain, pod, service
from portway.apiserver import decode, defaults
from portway.objects.kinds import ENDPOINT_SLICE, KINDS, NAMESPACE, NODE, POD, SECRET, Kind

Json = dict[str, Any]


def spec(obj: Json) -> Json:
    found: Json = defaulted(obj)["spec"]
    return found


def first(**fields: Any) -> Json:
    found: Json = spec(pod(container(**fields)))["containers"][0]
    return found


def test_the_plainest_service() -> None:
    assert spec(service()) == {
        "selector": {"app": "web"},
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
        "sessionAffinity": "None",
        "type": "ClusterIP",
        "internalTrafficPolicy": "Cluster",
    }


@pytest.mark.parametrize(
    ("kind", "policy"),
    [("ClusterIP", None), ("NodePort", "Cluster"), ("LoadBalancer", "Cluster"), ("ExternalName", None)],
)
def test_only_what_is_reached_from_outside_has_an_external_policy(kind: str, policy: str | None) -> None:
    assert spec(service(type=kind)).get("externalTrafficPolicy") == policy


def test_what_is_said_stays() -> None:
    said = {"type": "NodePort", "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local"}
    assert spec(service(**said)).items() >= said.items()


def test_affinity_lasts_three_hours() -> None:
    found = spec(service(sessionAffinity="ClientIP"))
    assert found["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 10800}}


def test_no_affinity_needs_no_configuration() -> None:
    assert "sessionAffinityConfig" not in spec(service(sessionAffinityConfig={"clientIP": {"timeoutSeconds": 1}}))


def test_an_address_of_a_load_balancer_is_a_virtual_one() -> None:
    obj = service(type="LoadBalancer") | {"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}}}
    assert defaulted(obj)["status"]["loadBalancer"]["ingress"] == [{"ip": "203.0.113.1", "ipMode": "VIP"}]


def test_the_plainest_pod() -> None:
    assert defaulted(pod()) == pod() | {
        "spec": {
            "containers": [
                {
                    "name": "c",
                    "image": "python:3.11",
                    "resources": {},
                    "terminationMessagePath": "/dev/termination-log",
                    "terminationMessagePolicy": "File",
                    "imagePullPolicy": "IfNotPresent",
                }
            ],
            "restartPolicy": "Always",
            "dnsPolicy": "ClusterFirst",
            "terminationGracePeriodSeconds": 30,
            "schedulerName": "default-scheduler",
            "securityContext": {},
            "enableServiceLinks": True,
        },
        "status": {"phase": "Pending"},
    }


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1.27", "IfNotPresent"),
        ("nginx@sha256:abc", "IfNotPresent"),
        ("registry:5000/nginx", "Always"),
        ("registry:5000/nginx:1", "IfNotPresent"),
    ],
)
def test_the_tag_decides_when_an_image_is_pulled(image: str, policy: str) -> None:
    assert first(image=image)["imagePullPolicy"] == policy


def test_a_probe() -> None:
    assert first(readinessProbe={"httpGet": {"port": 80}})["readinessProbe"] == {
        "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
        "timeoutSeconds": 1,
        "periodSeconds": 10,
        "successThreshold": 1,
        "failureThreshold": 3,
    }


def test_a_hook() -> None:
    hook = first(lifecycle={"preStop": {"httpGet": {"port": 80}}})["lifecycle"]["preStop"]
    assert hook == {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}}


def test_ports_and_variables() -> None:
    found = first(ports=[{"containerPort": 80}], env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}])
    assert found["ports"] == [{"containerPort": 80, "protocol": "TCP"}]
    assert found["env"][0]["valueFrom"]["fieldRef"] == {"apiVersion": "v1", "fieldPath": "x"}


def test_a_limit_is_a_request_unless_one_is_said() -> None:
    found = first(resources={"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "1"}})
    assert found["resources"]["requests"] == {"cpu": "1", "memory": "1Gi"}


def test_in_the_nodes_network_a_port_is_the_nodes() -> None:
    found = spec(pod(container(ports=[{"containerPort": 80}]), hostNetwork=True))
    assert found["containers"][0]["ports"] == [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}]


@pytest.mark.parametrize(
    ("volume", "result"),
    [
        ({}, {"emptyDir": {}}),
        ({"configMap": {"name": "c"}}, {"configMap": {"name": "c", "defaultMode": 420}}),
        ({"secret": {"secretName": "s"}}, {"secret": {"secretName": "s", "defaultMode": 420}}),
        ({"hostPath": {"path": "/x"}}, {"hostPath": {"path": "/x", "type": ""}}),
    ],
)
def test_volumes(volume: Json, result: Json) -> None:
    assert spec(pod(volumes=[{"name": "v"} | volume]))["volumes"] == [{"name": "v"} | result]


def test_a_deployment() -> None:
    found = spec(deployment())
    del found["template"], found["selector"]
    assert found == {
        "replicas": 1,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}},
        "revisionHistoryLimit": 10,
        "progressDeadlineSeconds": 600,
    }


def test_no_replicas_are_said() -> None:
    assert spec(deployment(replicas=0))["replicas"] == 0


def test_recreating_needs_no_numbers() -> None:
    assert spec(deployment(strategy={"type": "Recreate"}))["strategy"] == {"type": "Recreate"}


def test_a_template_is_defaulted_like_a_pod_but_makes_no_requests_of_limits() -> None:
    limited = container(resources={"limits": {"cpu": "1"}})
    found = spec(deployment(template={"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [limited]}}))
    template = found["template"]["spec"]
    assert template["containers"][0]["resources"] == {"limits": {"cpu": "1"}}
    assert template["restartPolicy"] == "Always"
    assert "enableServiceLinks" not in template


def test_a_secrets_text_becomes_data() -> None:
    found = defaulted(plain(SECRET, stringData={"a": "ü"}, data={"a": "eA==", "b": "eA=="}))
    assert (found["type"], found["data"]) == ("Opaque", {"a": base64.b64encode("ü".encode()).decode(), "b": "eA=="})
    assert "stringData" not in found


def test_a_namespace_is_labelled_and_held() -> None:
    found = defaulted(plain(NAMESPACE, "shop"))
    assert found["metadata"]["labels"] == {"kubernetes.io/metadata.name": "shop"}
    assert found["spec"] == {"finalizers": ["kubernetes"]}
    assert found["status"] == {"phase": "Active"}


def test_a_namespace_that_goes_is_not_held_again() -> None:
    going = plain(NAMESPACE, "shop", spec={"finalizers": []})
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert defaulted(going)["spec"] == {"finalizers": []}


def test_a_slices_ports() -> None:
    found = defaulted(plain(ENDPOINT_SLICE, addressType="IPv4", ports=[{"port": 80}]))
    assert found["ports"] == [{"name": "", "port": 80, "protocol": "TCP"}]


def test_a_nodes_whole_capacity_is_allocatable() -> None:
    found = defaulted(plain(NODE, status={"capacity": {"pods": "110"}}))
    assert found["status"]["allocatable"] == {"pods": "110"}


def test_admission_gives_an_account_and_patience() -> None:
    obj = pod()
    defaults.admit_pod(obj)
    assert obj["spec"]["serviceAccountName"] == "default"
    assert [(t["key"], t["effect"], t["tolerationSeconds"]) for t in obj["spec"]["tolerations"]] == [
        ("node.kubernetes.io/not-ready", "NoExecute", 300),
        ("node.kubernetes.io/unreachable", "NoExecute", 300),
    ]


@pytest.mark.parametrize(
    "own",
    [{"operator": "Exists"}, {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}],
)
def test_a_pods_own_patience_counts(own: Json) -> None:
    obj = pod(tolerations=[dict(own)])
    defaults.admit_pod(obj)
    keys = [t.get("key") for t in obj["spec"]["tolerations"]]
    assert keys.count("node.kubernetes.io/not-ready") == (1 if "key" in own else 0)


@pytest.mark.parametrize("obj", [service(), pod(), deployment(), *(plain(k) for k in KINDS)], ids=lambda o: o["kind"])
def test_defaulting_again_changes_nothing(obj: Json) -> None:
    once = defaulted(obj)
    assert defaulted(copy.deepcopy(once)) == once


@pytest.mark.parametrize("obj", [service(), pod(), deployment(), *(plain(k) for k in KINDS)], ids=lambda o: o["kind"])
def test_every_default_is_a_field_of_its_kind(obj: Json) -> None:
    kind = next(k for k in KINDS if k.kind == obj["kind"])
    complete = defaulted(obj)
    if kind is POD:
        defaults.admit_pod(complete)
    assert decode.strict(kind, complete) == []


def test_a_kind_without_defaults_is_left_alone() -> None:
    stranger = Kind("x.io", "v1", "Foo", "foos", "")
    obj: Json = {"spec": {}}
    defaults.set_defaults(stranger, obj)
    assert obj == {"spec": {}}
