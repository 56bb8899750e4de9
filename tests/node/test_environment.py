"""The environment of a container: every way to say a value, and what a reference becomes."""

from __future__ import annotations

import base64

import pytest

from build_node import pod
from portway.node.environment import ConfigError, Sources, environment, expand, field_value, service_variables
from portway.objects.core import (
    ConfigMap,
    Container,
    EnvFromSource,
    EnvVar,
    EnvVarSource,
    FieldRef,
    KeyRef,
    ResourceFieldRef,
    Secret,
    Service,
    ServicePort,
    ServiceSpec,
    SourceRef,
)
from portway.objects.meta import ObjectMeta

EXPANSIONS = (
    ("a plain word", "hello", "hello"),
    ("a defined variable", "$(NAME)", "web"),
    ("one inside other text", "http://$(NAME):$(PORT)/", "http://web:80/"),
    ("an undefined variable stays", "$(NOBODY)", "$(NOBODY)"),
    ("two dollars are one", "$$(NAME)", "$(NAME)"),
    ("three: an escaped one, then a reference", "$$$(NAME)", "$web"),
    ("a dollar that starts nothing", "5$ and $NAME", "5$ and $NAME"),
    ("an unclosed reference", "$(NAME", "$(NAME"),
    ("an empty name is not defined", "$()", "$()"),
    ("a value is not expanded again", "$(TRICK)", "$(NAME)"),
    ("a dollar at the end", "cost: 5$", "cost: 5$"),
)


@pytest.mark.parametrize(("story", "text", "expected"), EXPANSIONS, ids=[row[0] for row in EXPANSIONS])
def test_references_in_commands_and_values(story: str, text: str, expected: str) -> None:
    assert expand(text, {"NAME": "web", "PORT": "80", "TRICK": "$(NAME)"}) == expected


def sources() -> Sources:
    coded = base64.b64encode(b"s3cret").decode()
    return Sources(
        pod=pod("web"),
        pod_ip="10.0.1.7",
        host_ip="10.100.0.2",
        node="node-1",
        config_maps={"settings": ConfigMap(data={"COLOUR": "blue", "not a name": "x"})},
        secrets={"keys": Secret(data={"TOKEN": coded})},
        services={"KUBERNETES_SERVICE_HOST": "10.3.240.1", "COLOUR": "from-a-service"},
    )


def made(*env: EnvVar, env_from: tuple[EnvFromSource, ...] = ()) -> dict[str, str]:
    result = environment(Container(name="main", env=env, env_from=env_from), sources())
    return {k: v for k, v in result.items() if k != "KUBERNETES_SERVICE_HOST"}


def test_later_entries_see_earlier_ones() -> None:
    assert made(EnvVar("A", "1"), EnvVar("B", "$(A)2"), EnvVar("C", "$(D)"), EnvVar("D", "4")) == {
        "A": "1",
        "B": "12",
        "C": "$(D)",
        "D": "4",
        "COLOUR": "from-a-service",
    }


def test_a_manifest_wins_over_the_variables_of_services() -> None:
    assert made(EnvVar("COLOUR", "red"))["COLOUR"] == "red"
    assert made(env_from=(EnvFromSource(config_map_ref=SourceRef("settings")),))["COLOUR"] == "blue"


def test_values_see_the_variables_of_services() -> None:
    assert made(EnvVar("API", "https://$(KUBERNETES_SERVICE_HOST)"))["API"] == "https://10.3.240.1"


def test_env_from_takes_names_that_are_variables_and_puts_the_prefix_before_them() -> None:
    values = made(env_from=(EnvFromSource(prefix="APP_", config_map_ref=SourceRef("settings")),))
    assert values["APP_COLOUR"] == "blue"
    assert "APP_not a name" not in values


def test_env_wins_over_env_from() -> None:
    secret = EnvFromSource(secret_ref=SourceRef("keys"))
    assert made(env_from=(secret,))["TOKEN"] == "s3cret"
    assert made(EnvVar("TOKEN", "mine"), env_from=(secret,))["TOKEN"] == "mine"


FIELDS = (
    ("metadata.name", "web"),
    ("metadata.namespace", "default"),
    ("metadata.uid", "uid-1"),
    ("spec.nodeName", "node-1"),
    ("spec.serviceAccountName", "default"),
    ("status.podIP", "10.0.1.7"),
    ("status.hostIP", "10.100.0.2"),
    ("metadata.labels['absent']", ""),
)


@pytest.mark.parametrize(("path", "expected"), FIELDS)
def test_fields_of_the_pod(path: str, expected: str) -> None:
    assert made(EnvVar("X", value_from=EnvVarSource(field_ref=FieldRef(field_path=path))))["X"] == expected


def test_labels_by_key() -> None:
    labelled = pod("web")
    meta = ObjectMeta(name="web", labels={"app.kubernetes.io/name": "shop", "b": "2"}, annotations={"note": "hi"})
    shown = Sources(pod=type(labelled)(metadata=meta, spec=labelled.spec))
    assert field_value("metadata.labels['app.kubernetes.io/name']", shown) == "shop"
    assert field_value("metadata.annotations['note']", shown) == "hi"
    assert field_value("metadata.labels", shown) == 'app.kubernetes.io/name="shop"\nb="2"'


def test_keys_of_config_maps_and_secrets() -> None:
    wanted = EnvVarSource(config_map_key_ref=KeyRef("settings", "COLOUR"))
    hidden = EnvVarSource(secret_key_ref=KeyRef("keys", "TOKEN"))
    values = made(EnvVar("A", value_from=wanted), EnvVar("B", value_from=hidden))
    assert (values["A"], values["B"]) == ("blue", "s3cret")


REFUSALS = (
    ("a missing map", EnvVarSource(config_map_key_ref=KeyRef("nobody", "K")), 'configmap "nobody" not found'),
    (
        "a missing key",
        EnvVarSource(config_map_key_ref=KeyRef("settings", "K")),
        "find key K in configmap default/settings",
    ),
    ("a missing secret", EnvVarSource(secret_key_ref=KeyRef("nobody", "K")), 'secret "nobody" not found'),
    (
        "an unknown field",
        EnvVarSource(field_ref=FieldRef(field_path="spec.x")),
        "'spec.x' is not one that the API knows",
    ),
    ("resources", EnvVarSource(resource_field_ref=ResourceFieldRef(resource="limits.cpu")), "no resource limits here"),
)


@pytest.mark.parametrize(("story", "source", "words"), REFUSALS, ids=[row[0] for row in REFUSALS])
def test_what_is_not_there_is_named(story: str, source: EnvVarSource, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        made(EnvVar("X", value_from=source))


def test_what_is_optional_may_be_missing() -> None:
    absent = EnvVarSource(config_map_key_ref=KeyRef("settings", "K", optional=True))
    gone = EnvVarSource(secret_key_ref=KeyRef("nobody", "K", optional=True))
    from_nobody = EnvFromSource(config_map_ref=SourceRef("nobody", optional=True))
    assert made(EnvVar("A", value_from=absent), EnvVar("B", value_from=gone), env_from=(from_nobody,)) == {
        "COLOUR": "from-a-service"
    }


def test_a_secret_that_is_not_base64_is_refused() -> None:
    bad = Sources(pod=pod(), secrets={"keys": Secret(data={"K": "not base64!"})})
    container = Container(name="main", env_from=(EnvFromSource(secret_ref=SourceRef("keys")),))
    with pytest.raises(ConfigError, match="secret keys, key K: the value is not base64"):
        environment(container, bad)


def test_variables_of_services() -> None:
    web = Service(
        metadata=ObjectMeta(name="my-web"),
        spec=ServiceSpec(cluster_ip="10.3.240.9", ports=(ServicePort("http", port=80), ServicePort("tls-2", port=443))),
    )
    headless = Service(
        metadata=ObjectMeta(name="db"), spec=ServiceSpec(cluster_ip="None", ports=(ServicePort(port=1),))
    )
    assert service_variables([headless, web], "10.3.240.1") == {
        "KUBERNETES_SERVICE_HOST": "10.3.240.1",
        "KUBERNETES_SERVICE_PORT": "443",
        "KUBERNETES_SERVICE_PORT_HTTPS": "443",
        "MY_WEB_SERVICE_HOST": "10.3.240.9",
        "MY_WEB_SERVICE_PORT": "80",
        "MY_WEB_SERVICE_PORT_HTTP": "80",
        "MY_WEB_SERVICE_PORT_TLS_2": "443",
    }
