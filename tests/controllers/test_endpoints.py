"""Which pods are behind a Service, as slices and as Endpoints, and how little is written when one pod changes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from build_controllers import node, pod, service
from portway.controllers import endpoints as pure
from portway.controllers.endpoints import SlicePlan, endpoints, slices
from portway.objects.core import Pod, Service
from portway.objects.discovery import EndpointSlice
from portway.objects.meta import RawObject

NODES = {"node-1": node("node-1", labels={pure.ZONE: "zone-a"}), "node-2": node("node-2")}


def written(plan: SlicePlan, existing: tuple[EndpointSlice, ...] = ()) -> tuple[EndpointSlice, ...]:
    """The slices after the plan, as the API server would have them."""
    there = {s.name: msgspec.to_builtins(s) for s in existing if s.name not in plan.delete}
    for name, patch in plan.update:
        labels = {**there[name]["metadata"].get("labels", {}), **patch.get("metadata", {}).get("labels", {})}
        there[name] |= {k: v for k, v in patch.items() if k != "metadata"}
        there[name]["metadata"]["labels"] = {k: v for k, v in labels.items() if v is not None}
    taken = {s.name for s in existing}
    free = (n for n in map("web-{:05d}".format, range(10_000)) if n not in taken)
    for body in plan.create:
        name = next(free)
        there[name] = {**body, "metadata": {**body["metadata"], "name": name}}
    return tuple(msgspec.convert(s, EndpointSlice) for s in there.values())


def only(plan: SlicePlan) -> RawObject:
    assert (len(plan.create), plan.update, plan.delete) == (1, (), ())
    return plan.create[0]


def first(plan: SlicePlan) -> RawObject:
    endpoint: RawObject = only(plan)["endpoints"][0]
    return endpoint


def test_a_slice_in_full() -> None:
    body = only(slices(service(), [pod("a", ip="10.0.1.2")], NODES, ()))
    assert body == {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "generateName": "web-",
            "namespace": "shop",
            "labels": {
                "team": "shop",
                "kubernetes.io/service-name": "web",
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            },
            "ownerReferences": [
                {
                    "apiVersion": "v1",
                    "kind": "Service",
                    "name": "web",
                    "uid": "uid-web",
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "addressType": "IPv4",
        "endpoints": [
            {
                "addresses": ["10.0.1.2"],
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "targetRef": {"kind": "Pod", "namespace": "shop", "name": "a", "uid": "uid-a"},
                "nodeName": "node-1",
                "zone": "zone-a",
            }
        ],
        "ports": [{"name": "", "protocol": "TCP", "port": 8080}],
    }


CONDITIONS = [
    ("a ready pod", pod("a", ip="10.0.1.2"), {}, (True, True, False)),
    ("a pod that is not ready", pod("a", ip="10.0.1.2", ready=False), {}, (False, False, False)),
    ("a ready pod that ends still serves", pod("a", ip="10.0.1.2", deleted=True), {}, (False, True, True)),
    ("one that ends and is not ready", pod("a", ip="10.0.1.2", ready=False, deleted=True), {}, (False, False, True)),
    ("published before it is ready", pod("a", ip="10.0.1.2", ready=False), {"publishNotReadyAddresses": True},
     (True, False, False)),
]  # fmt: skip


@pytest.mark.parametrize(("sentence", "who", "spec", "expected"), CONDITIONS, ids=[c[0] for c in CONDITIONS])
def test_conditions(sentence: str, who: Pod, spec: dict[str, Any], expected: tuple[bool, bool, bool]) -> None:
    made = first(slices(service(**spec), [who], NODES, ()))["conditions"]
    assert (made["ready"], made["serving"], made["terminating"]) == expected, sentence


def test_pods_without_an_address_and_finished_ones_are_not_there() -> None:
    pods = [pod("a"), pod("b", ip="10.0.1.3", phase="Succeeded"), pod("c", ip="10.0.1.4", phase="Failed")]
    assert only(slices(service(), pods, NODES, ()))["endpoints"] == []


def test_nobody_is_one_empty_slice_that_is_used_when_somebody_comes() -> None:
    empty = written(slices(service(), (), NODES, ()))
    assert len(empty) == 1
    assert slices(service(), (), NODES, empty) == SlicePlan()
    plan = slices(service(), [pod("a", ip="10.0.1.2")], NODES, empty)
    assert len(written(plan, empty)) == 1


def test_the_last_one_to_leave_leaves_an_empty_slice() -> None:
    there = written(slices(service(), [pod("a", ip="10.0.1.2")], NODES, ()))
    plan = slices(service(), (), NODES, there)
    assert (plan.create, plan.delete) == ((), ())
    assert plan.update == ((there[0].name, {"endpoints": []}),)
    assert slices(service(), (), NODES, written(plan, there)) == SlicePlan()


def test_a_named_port_is_what_each_pod_says_and_each_set_has_its_slices() -> None:
    wanted = service(ports=({"name": "web", "port": 80, "targetPort": "http"},))
    pods = [
        pod("a", ip="10.0.1.2", ports={"http": 8080}),
        pod("b", ip="10.0.1.3", ports={"http": 9090}),
        pod("c", ip="10.0.1.4", ports={"http": 8080}),
        pod("d", ip="10.0.1.5", ports={"other": 1}),
    ]
    made = slices(wanted, pods, NODES, ()).create
    found = {tuple(p["port"] for p in s["ports"]): [e["targetRef"]["name"] for e in s["endpoints"]] for s in made}
    assert found == {(8080,): ["a", "c"], (9090,): ["b"], (): ["d"]}


def test_a_named_port_may_be_a_side_cars_and_the_protocol_counts() -> None:
    sidecar = {"name": "s", "restartPolicy": "Always", "ports": [{"name": "http", "containerPort": 7}]}
    once = {"name": "i", "ports": [{"name": "http", "containerPort": 6}]}
    who = pod("a", spec={"initContainers": [once, sidecar]})
    ports = ({"port": 80, "targetPort": "http"}, {"port": 80, "targetPort": "http", "protocol": "UDP"})
    ports = ({"port": 80, "targetPort": "http"}, {"port": 80, "targetPort": "http", "protocol": "UDP"})
    tcp, udp = service(ports=ports).spec.ports or ()
    assert (pure.target_number(tcp, who), pure.target_number(udp, who)) == (7, 0)


@pytest.mark.parametrize(("target", "number"), [(None, 80), (0, 80), (8080, 8080), ("8080", 8080)])
def test_numbers_as_target(target: Any, number: int) -> None:
    port = (service(ports=({"port": 80, "targetPort": target},)).spec.ports or ())[0]
    assert pure.target_number(port, pod("a")) == number


def test_headless_services_are_labelled_and_may_have_no_ports() -> None:
    body = only(slices(service(clusterIP="None", ports=()), [pod("a", ip="10.0.1.2")], NODES, ()))
    assert body["metadata"]["labels"][pure.HEADLESS] == ""
    assert body["ports"] == []
    assert len(body["endpoints"]) == 1


def test_a_host_name_counts_in_its_own_subdomain() -> None:
    named = pod("a", ip="10.0.1.2", spec={"hostname": "first", "subdomain": "web"})
    stranger = pod("b", ip="10.0.1.3", spec={"hostname": "first", "subdomain": "other"})
    made = only(slices(service(), [named, stranger], NODES, ()))["endpoints"]
    assert [e.get("hostname") for e in made] == ["first", None]


def test_two_families_are_two_slices() -> None:
    who = pod("a", ip="10.0.1.2")
    both = msgspec.convert(
        {**msgspec.to_builtins(who.status), "podIPs": [{"ip": "10.0.1.2"}, {"ip": "fd00::2"}]}, type(who.status)
    )
    who = msgspec.structs.replace(who, status=both)
    made = slices(service(ipFamilies=["IPv4", "IPv6"]), [who], NODES, ()).create
    assert {(s["addressType"], s["endpoints"][0]["addresses"][0]) for s in made} == {
        ("IPv4", "10.0.1.2"),
        ("IPv6", "fd00::2"),
    }


def test_one_pod_changes_one_slice_and_order_does_not_matter() -> None:
    pods = [pod(f"p{n:03d}", ip=f"10.0.1.{n}") for n in range(2, 32)]
    there = written(slices(service(), pods, NODES, (), 10))
    assert len(there) == 3
    assert slices(service(), reversed(pods), NODES, there, 10) == SlicePlan()
    pods[4] = pod("p006", ip="10.0.1.6", ready=False)
    plan = slices(service(), pods, NODES, there, 10)
    assert (plan.create, len(plan.update), plan.delete) == ((), 1, ())
    assert set(plan.update[0][1]) == {"endpoints"}


def test_a_new_label_of_the_service_is_on_its_slices_and_an_old_one_is_not() -> None:
    there = written(slices(service(), [pod("a", ip="10.0.1.2")], NODES, ()))
    old = service()
    renamed = msgspec.structs.replace(old, metadata=msgspec.structs.replace(old.metadata, labels={"tier": "front"}))
    ((_, patch),) = slices(renamed, [pod("a", ip="10.0.1.2")], NODES, there).update
    assert patch["metadata"]["labels"]["tier"] == "front"
    assert patch["metadata"]["labels"]["team"] is None
    assert "endpoints" not in patch


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sets(st.integers(2, 60), max_size=30), min_size=1, max_size=5), st.integers(1, 7))
def test_whatever_comes_and_goes_the_slices_hold_exactly_the_pods(steps: list[set[int]], size: int) -> None:
    there: tuple[EndpointSlice, ...] = ()
    for step in steps:
        pods = [pod(f"p{n}", ip=f"10.0.1.{n}", ports={"http": 8000 + n % 2}) for n in step]
        wanted = service(ports=({"port": 80, "targetPort": "http"},))
        there = written(slices(wanted, pods, NODES, there, size), there)
        found = [a for s in there for e in s.endpoints or () for a in e.addresses]
        assert sorted(found) == sorted(f"10.0.1.{n}" for n in step), "each once"
        assert all(len(s.endpoints or ()) <= size for s in there)
        assert len(there) >= 1
        assert slices(wanted, pods, NODES, there, size) == SlicePlan(), "nothing more to do"


# Endpoints


def subset(made: RawObject, n: int = 0) -> dict[str, list[str]]:
    return {k: [a["ip"] for a in made["subsets"][n].get(k, ())] for k in ("addresses", "notReadyAddresses")}


def test_endpoints_by_readiness_sorted_by_number() -> None:
    pods = [pod("a", ip="10.0.1.10"), pod("b", ip="10.0.1.9"), pod("c", ip="10.0.1.3", ready=False)]
    made = endpoints(service(), pods)
    assert subset(made) == {"addresses": ["10.0.1.9", "10.0.1.10"], "notReadyAddresses": ["10.0.1.3"]}
    assert made["subsets"][0]["ports"] == [{"protocol": "TCP", "port": 8080}]
    assert made["metadata"]["labels"] == {"team": "shop", "endpoints.kubernetes.io/managed-by": "endpoint-controller"}


def test_an_address_that_is_none_stops_nobody() -> None:
    made = endpoints(service(), [pod("a", ip="10.0.1.260"), pod("b", ip="10.0.1.3")])
    assert subset(made)["addresses"] == ["10.0.1.3", "10.0.1.260"]


def test_pods_that_end_are_in_no_endpoints_unless_all_are_published() -> None:
    ending = [pod("a", ip="10.0.1.2", deleted=True)]
    assert endpoints(service(), ending)["subsets"] == []
    assert subset(endpoints(service(publishNotReadyAddresses=True), ending))["addresses"] == ["10.0.1.2"]


def test_different_ports_are_different_subsets() -> None:
    wanted = service(ports=({"name": "web", "port": 80, "targetPort": "http"},))
    pods = [
        pod("a", ip="10.0.1.2", ports={"http": 8080}),
        pod("b", ip="10.0.1.3", ports={"http": 9090}),
        pod("c", ip="10.0.1.4"),
    ]
    made = endpoints(wanted, pods)
    assert [(s["ports"][0]["port"], s["addresses"][0]["ip"]) for s in made["subsets"]] == [
        (8080, "10.0.1.2"),
        (9090, "10.0.1.3"),
    ]


def test_more_than_a_thousand_are_cut_and_the_ready_ones_stay() -> None:
    pods = [pod(f"p{n:04d}", ip=f"10.0.{n // 250}.{n % 250 + 2}", ready=n >= 10) for n in range(1005)]
    made = endpoints(service(), pods)
    assert (len(subset(made)["addresses"]), len(subset(made)["notReadyAddresses"])) == (995, 5)
    assert made["metadata"]["annotations"] == {pure.OVER_CAPACITY: "truncated"}


def test_a_headless_service_without_ports_has_addresses() -> None:
    headless: Service = service(clusterIP="None", ports=())
    made = endpoints(headless, [pod("a", ip="10.0.1.2")])
    assert subset(made)["addresses"] == ["10.0.1.2"]
    assert made["metadata"]["labels"][pure.HEADLESS] == ""
