"""Server-side apply as a story of managers: who owns what, who is in whose way, and what goes when nobody wants it."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from build_pure import container, defaulted, deployment, kind_of, plain, pod, refused, service
from portway.apiserver import fieldsets as sets
from portway.apiserver import managed
from portway.objects.kinds import CONFIG_MAP, DEPLOYMENT, POD, SERVICE
from portway.objects.schema import schemas

Json = dict[str, Any]
T0, T1, T2 = "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z", "2026-01-01T00:00:02Z"


def apply(live: Json | None, wanted: Json, manager: str = "kubectl", *, force: bool = False, now: str = T0) -> Json:
    return managed.apply(kind_of(wanted), live, wanted, manager=manager, force=force, now=now)


def update(old: Json | None, new: Json, manager: str = "kubectl", now: str = T0, subresource: str = "") -> Json:
    """A stored object after an ordinary write."""
    result = copy.deepcopy(new)
    managed.track_update(kind_of(new), old, result, manager=manager, now=now, subresource=subresource)
    return result


def owners(obj: Json) -> dict[str, Json]:
    """{"manager/Operation/subresource": fields}."""
    return {
        "/".join(filter(None, (e["manager"], e["operation"], e.get("subresource")))): e["fieldsV1"]
        for e in obj["metadata"].get("managedFields", [])
    }


def config(name: str = "x", **data: str) -> Json:
    return plain(CONFIG_MAP, name, data=data)


def data(obj: Json) -> Json:
    found: Json = obj.get("data", {})
    return found


class TestApply:
    def test_a_new_object_belongs_to_who_applied_it(self) -> None:
        made = apply(None, service(ports=[{"port": 80, "name": "http"}]))
        assert owners(made) == {
            "kubectl/Apply": {
                "f:spec": {
                    "f:selector": {},
                    "f:ports": {'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}, "f:name": {}}},
                }
            }
        }

    def test_the_entry_says_when_and_in_which_version(self) -> None:
        (entry,) = apply(None, deployment())["metadata"]["managedFields"]
        del entry["fieldsV1"]
        assert entry == {
            "manager": "kubectl",
            "operation": "Apply",
            "apiVersion": "apps/v1",
            "time": T0,
            "fieldsType": "FieldsV1",
        }

    @pytest.mark.parametrize("obj", [service(), deployment(), pod(), config(a="1")], ids=lambda o: o["kind"])
    def test_applying_twice_changes_nothing(self, obj: Json) -> None:
        once = defaulted(apply(None, obj))
        assert apply(once, obj, now=T1) == once

    def test_a_field_that_is_applied_no_longer_goes(self) -> None:
        made = apply(None, config(a="1", b="2"))
        assert data(apply(made, config(a="1"), now=T1)) == {"a": "1"}

    def test_a_field_that_another_applied_too_stays(self) -> None:
        made = apply(apply(None, config(a="1", b="2")), config(b="2"), "other")
        after = apply(made, config(a="1"))
        assert data(after) == {"a": "1", "b": "2"}
        assert owners(after)["other/Apply"] == {"f:data": {"f:b": {}}}

    def test_the_last_field_of_a_map_takes_the_map_along(self) -> None:
        obj = config(a="1")
        obj["metadata"]["labels"] = {"x": "y"}
        assert "labels" not in apply(apply(None, obj), config(a="1"))["metadata"]

    def test_a_list_element_goes_with_what_the_server_added_to_it(self) -> None:
        made = defaulted(apply(None, service(ports=[{"port": 80, "name": "a"}, {"port": 81, "name": "b"}])))
        after = apply(made, service(ports=[{"port": 81, "name": "b"}]))
        assert [p["port"] for p in after["spec"]["ports"]] == [81]

    def test_what_the_server_filled_in_stays(self) -> None:
        made = defaulted(apply(None, service()))
        assert apply(made, service(selector={"app": "x"}))["spec"]["type"] == "ClusterIP"

    def test_an_element_that_the_server_knows_by_a_defaulted_key_is_found(self) -> None:
        made = defaulted(apply(None, service(ports=[{"port": 80}])))
        after = apply(made, service(ports=[{"port": 80, "targetPort": 8080}]))
        assert after["spec"]["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 8080}]

    def test_applied_elements_come_in_their_order_and_others_keep_their_place(self) -> None:
        live = pod(container(name="a"), container(name="own"), container(name="b"))
        after = apply(live, pod(container(name="b"), container(name="a")), force=True)
        assert [c["name"] for c in after["spec"]["containers"]] == ["own", "b", "a"]

    def test_an_atomic_map_is_replaced_as_a_whole(self) -> None:
        made = apply(None, service(selector={"a": "1"}))
        assert apply(made, service(selector={"b": "2"}))["spec"]["selector"] == {"b": "2"}

    def test_a_set_merges(self) -> None:
        one, two = config(), config()
        one["metadata"]["finalizers"], two["metadata"]["finalizers"] = ["x/a"], ["x/b"]
        both = apply(apply(None, one), two, "other")
        assert sorted(both["metadata"]["finalizers"]) == ["x/a", "x/b"]
        assert apply(both, config(), "other")["metadata"]["finalizers"] == ["x/a"]

    def test_nothing_that_is_given_changes(self) -> None:
        live, wanted = defaulted(apply(None, service())), service(ports=[{"port": 81}])
        before = copy.deepcopy((live, wanted))
        apply(live, wanted)
        assert (live, wanted) == before

    def test_managed_fields_cannot_be_applied(self) -> None:
        wanted = config(a="1")
        wanted["metadata"]["managedFields"] = [{"manager": "x"}]
        assert refused(lambda: apply(None, wanted)).code == 400

    def test_the_status_is_not_applied_through_the_object(self) -> None:
        made = apply(None, service() | {"status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}})
        assert "f:status" not in owners(made)["kubectl/Apply"]

    def test_the_status_has_an_endpoint_of_its_own(self) -> None:
        made = defaulted(apply(None, service(type="LoadBalancer")))
        status = {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}}
        wanted = {k: made[k] for k in ("apiVersion", "kind")} | {"metadata": {"name": "web"}, "status": status}
        after = managed.apply(SERVICE, made, wanted, manager="lb", force=False, now=T1, subresource="status")
        assert after["status"] == status
        assert after["spec"] == made["spec"]
        assert owners(after)["lb/Apply/status"] == {"f:status": {"f:loadBalancer": {"f:ingress": {}}}}

    @pytest.mark.parametrize(
        ("path", "text"),
        [
            (("f:spec", "f:replicas"), ".spec.replicas"),
            (("f:a", 'k:{"name":"c"}', "f:image"), '.a[name="c"].image'),
            (("f:a", 'v:"x"'), '.a[="x"]'),
            (("f:a", "k:nonsense"), ".a[nonsense]"),
            (("f:a", "k:[1]"), ".a[[1]]"),
        ],
    )
    def test_paths_in_words(self, path: tuple[str, ...], text: str) -> None:
        assert sets.words(path) == text


class TestConflicts:
    def test_another_value_for_an_owned_field_is_a_conflict(self) -> None:
        made = apply(None, config(a="1"))
        error = refused(lambda: apply(made, config(a="2"), "other"))
        assert error.code == 409
        assert error.message == 'Apply failed with 1 conflict: conflict with "kubectl": .data.a'
        assert error.causes == [
            {"reason": "FieldManagerConflict", "message": 'conflict with "kubectl"', "field": ".data.a"}
        ]

    def test_a_conflict_with_an_ordinary_writer_says_when_it_wrote(self) -> None:
        stored = update(None, defaulted(deployment()), "kubectl-create", T1)
        wanted = deployment(replicas=5)
        error = refused(lambda: apply(stored, wanted))
        assert error.message == (
            f'Apply failed with 1 conflict: conflict with "kubectl-create" using apps/v1 at {T1}: .spec.replicas'
        )

    def test_several_conflicts_are_listed_by_manager(self) -> None:
        made = apply(apply(None, config(a="1", b="1")), config(c="1"), "third")
        error = refused(lambda: apply(made, config(a="2", b="2", c="2"), "other"))
        assert error.message == (
            "Apply failed with 3 conflicts: "
            'conflicts with "kubectl":\n- .data.a\n- .data.b\nconflicts with "third":\n- .data.c'
        )

    def test_a_list_element_is_named_by_its_keys(self) -> None:
        made = apply(None, service(ports=[{"port": 80, "name": "a"}]))
        error = refused(lambda: apply(made, service(ports=[{"port": 80, "name": "b"}]), "other"))
        assert error.causes[0]["field"] == '.spec.ports[port=80,protocol="TCP"].name'

    def test_the_same_value_is_shared(self) -> None:
        both = apply(apply(None, config(a="1")), config(a="1"), "other")
        assert owners(both) == {"kubectl/Apply": {"f:data": {"f:a": {}}}, "other/Apply": {"f:data": {"f:a": {}}}}

    def test_force_takes_the_field(self) -> None:
        taken = apply(apply(None, config(a="1", b="1")), config(a="2"), "other", force=True)
        assert data(taken) == {"a": "2", "b": "1"}
        assert owners(taken) == {"kubectl/Apply": {"f:data": {"f:b": {}}}, "other/Apply": {"f:data": {"f:a": {}}}}

    def test_who_lost_everything_is_listed_no_longer(self) -> None:
        taken = apply(apply(None, config(a="1")), config(a="2"), "other", force=True)
        assert set(owners(taken)) == {"other/Apply"}

    def test_an_object_that_nobody_tracked_is_defended(self) -> None:
        error = refused(lambda: apply(config(a="1"), config(a="2")))
        assert 'conflict with "before-first-apply" using v1' in error.message

    def test_who_is_in_conflict_with_himself_is_not(self) -> None:
        assert data(apply(apply(None, config(a="1")), config(a="2"))) == {"a": "2"}


class TestUpdate:
    def test_a_create_owns_what_was_written_with_its_containers(self) -> None:
        made = update(None, config(a="1") | {"metadata": {"name": "x", "labels": {"l": "v"}}})
        assert owners(made) == {
            "kubectl/Update": {
                "f:data": {".": {}, "f:a": {}},
                "f:metadata": {"f:labels": {".": {}, "f:l": {}}},
            }
        }

    def test_an_update_takes_what_it_changed(self) -> None:
        made = apply(None, config(a="1", b="1"))
        changed = update(made, made | {"data": {"a": "2", "b": "1"}}, "editor", T1)
        assert owners(changed) == {
            "kubectl/Apply": {"f:data": {"f:b": {}}},
            "editor/Update": {"f:data": {"f:a": {}}},
        }

    def test_what_was_removed_has_no_owner(self) -> None:
        made = update(None, config(a="1", b="1"))
        assert owners(update(made, made | {"data": {"a": "1"}}, "editor")) == {
            "kubectl/Update": {"f:data": {".": {}, "f:a": {}}}
        }

    def test_a_write_that_changes_nothing_keeps_the_time(self) -> None:
        made = update(None, config(a="1"))
        assert update(made, made, now=T2) == made

    def test_status_is_an_entry_of_its_own(self) -> None:
        made = update(None, defaulted(pod()))
        ran = update(made, made | {"status": {"phase": "Running"}}, "kubelet", T1, "status")
        assert owners(ran)["kubelet/Update/status"] == {"f:status": {"f:phase": {}}}
        assert owners(ran)["kubectl/Update"] == owners(made)["kubectl/Update"]

    def test_a_status_write_owns_no_spec(self) -> None:
        made = update(None, defaulted(pod()))
        moved = copy.deepcopy(made)
        moved["spec"]["nodeName"] = "n"
        assert set(owners(update(made, moved, "kubelet", T1, "status"))) == {"kubectl/Update"}

    def test_conditions_are_owned_one_by_one(self) -> None:
        made = update(None, defaulted(pod()))
        status = {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Mine", "status": "True"}]}
        ran = update(made, made | {"status": status}, "kubelet", T1, "status")
        assert set(owners(ran)["kubelet/Update/status"]["f:status"]["f:conditions"]) == {
            ".",
            'k:{"type":"Mine"}',
            'k:{"type":"Ready"}',
        }

    def test_a_client_may_replace_the_list(self) -> None:
        made = update(None, config(a="1"))
        renamed = copy.deepcopy(made)
        renamed["metadata"]["managedFields"][0]["manager"] = "migrated"
        assert set(owners(update(made, renamed, "x"))) == {"migrated/Update"}

    def test_a_client_may_clear_the_list(self) -> None:
        made = update(None, config(a="1"))
        cleared = copy.deepcopy(made)
        cleared["metadata"]["managedFields"] = [{}]
        assert "managedFields" not in update(made, cleared)["metadata"]

    def test_a_client_that_sends_none_keeps_the_list(self) -> None:
        made = update(None, config(a="1"))
        silent = copy.deepcopy(made)
        del silent["metadata"]["managedFields"]
        assert update(made, silent) == made

    @pytest.mark.parametrize("fields", ["x", 1, [], {"f:data": "x"}, {"f:data": {"f:a": None}}])
    def test_a_list_that_cannot_be_read_is_ignored(self, fields: Any) -> None:
        made = update(None, config(a="1"))
        odd = copy.deepcopy(made)
        odd["metadata"]["managedFields"][0]["fieldsV1"] = fields
        assert update(made, odd) == made

    def test_sets_that_are_nested_too_deeply_are_none(self) -> None:
        deep: Json = {}
        for _ in range(500):
            deep = {"f:a": deep}
        assert not sets.is_trie(deep)

    def test_applied_entries_come_first_then_by_time(self) -> None:
        made = update(None, config(a="1"), "first", T0)
        made = update(made, made | {"data": {"a": "1", "b": "1"}}, "second", T2)
        both = apply(made, config(c="1"), "applier", now=T1)
        assert list(owners(both)) == ["applier/Apply", "first/Update", "second/Update"]


VALUES = st.dictionaries(st.sampled_from("abcd"), st.sampled_from("12"), max_size=4)


@given(VALUES, VALUES, VALUES)
def test_after_any_applies_everyones_fields_are_there(one: Json, two: Json, three: Json) -> None:
    live = apply(None, config(**one))
    live = apply(live, config(**two), "other", force=True)
    live = apply(live, config(**three)) if _agree(live, three) else apply(live, config(**three), force=True)
    assert three.items() <= data(live).items()
    owned = {k[2:] for fields in owners(live).values() for k in fields.get("f:data", {})}
    assert owned == set(data(live))


def _agree(live: Json, wanted: Json) -> bool:
    return all(data(live).get(k, v) == v for k, v in wanted.items())


@given(VALUES, VALUES)
def test_applying_is_idempotent(one: Json, two: Json) -> None:
    live = apply(apply(None, config(**one)), config(**two), "other", force=True)
    assert apply(live, config(**two), "other", now=T2) == live


TRIES: st.SearchStrategy[Json] = st.recursive(
    st.just({}),
    lambda inner: st.tuples(
        st.booleans(), st.dictionaries(st.sampled_from(["f:a", "f:b", 'v:"x"']), inner, min_size=1)
    ).map(lambda pair: ({".": {}} if pair[0] else {}) | pair[1]),
    max_leaves=8,
)
ROOTS = st.dictionaries(st.sampled_from(["f:a", "f:b"]), TRIES, max_size=2)


def paths(trie: Json, prefix: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """The members of a set, the slow and obvious way."""
    found: set[tuple[str, ...]] = set()
    for key, sub in trie.items():
        if key != ".":
            found |= paths(sub, (*prefix, key)) | ({(*prefix, key)} if sets.is_member(sub) else set())
    return found


@given(ROOTS, ROOTS)
def test_the_sets_obey_the_laws_of_sets(one: Json, two: Json) -> None:
    assert paths(sets.merge_roots(one, two)) == paths(one) | paths(two)
    assert paths(sets.subtract_roots(one, two)) == paths(one) - paths(two)
    assert set(sets.common(one, two)) == paths(one) & paths(two)
    assert paths(sets.from_paths(sorted(paths(one)))) == paths(one)


@pytest.mark.parametrize("kind", [SERVICE, POD, DEPLOYMENT], ids=lambda k: k.kind)
def test_a_set_is_json_that_kubectl_can_read(kind: Any) -> None:
    obj = {"Service": service(), "Pod": pod(), "Deployment": deployment()}[kind.kind]
    fields = sets.everything(schemas().get(kind.schema), obj)
    assert json.loads(json.dumps(fields)) == fields
