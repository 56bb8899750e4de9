"""Builders and helpers for tests of network namespaces: private ones that end with the test, and a model of the kernel."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest

from portway.netns.kernel import Namespace, NetworkError
from portway.netns.plan import (
    Action,
    Address,
    Change,
    Link,
    LinkState,
    Neighbour,
    Plan,
    Route,
    State,
)


def why_no_namespaces() -> str:
    """ "" where network namespaces can be made, else the reason that a skipped test prints."""
    try:
        Namespace.new("probe").close()
    except NetworkError as e:
        if e.errno in (errno.EPERM, errno.ENOSPC):
            return str(e)
        raise
    return ""


needs_namespaces = pytest.mark.skipif(
    bool(why_no_namespaces()), reason=f"no network namespaces here: {why_no_namespaces()}"
)


def carried_out(state: State, changes: tuple[Change, ...], owner: int) -> State:
    """What a kernel would have after `changes`: refuses (KeyError, ValueError) what a kernel refuses."""
    links, addresses, routes = dict(state.links), dict(state.addresses), dict(state.routes)
    neighbours = set(state.neighbours)
    for change in changes:
        adding = change.action is not Action.DELETE
        match change.what:
            case Link() as link if change.action is Action.ADD:
                if link.name in links:
                    raise ValueError(f"{link.name} exists")
                links[link.name] = _made(link, links, owner)
            case Link() as link if adding:
                if link.name in links:  # else its maker has not made it yet: the kernel's answer is an error of its own
                    links[link.name] = replace(
                        links[link.name], up=link.up, master=link.master, mtu=link.mtu or links[link.name].mtu
                    )
            case Link(name):
                del links[name]
                addresses = {a: o for a, o in addresses.items() if a.link != name}
                routes = {r: o for r, o in routes.items() if r.link != name}
                neighbours = {n for n in neighbours if n.link != name}
            case Address() as address if adding:
                addresses[address] = owner
            case Address() as address:
                del addresses[address]
            case Route() as route if adding:
                routes = {r: o for r, o in routes.items() if r.destination != route.destination}
                routes[route] = owner
            case Route() as route:
                del routes[route]
            case Neighbour() as neighbour:
                neighbours.add(neighbour)
            case _:
                pass
    return State(links, addresses, routes, frozenset(neighbours))


def _made(link: Link, links: dict[str, LinkState], owner: int) -> LinkState:
    if link.master and link.master not in links:
        raise KeyError(link.master)
    index = max((s.index for s in links.values()), default=0) + 1
    return LinkState(index, link.name, link.kind.value, link.up, link.master, link.mtu or 1500, owner=owner)


def settings_aside(plan: Plan) -> Plan:
    """`plan` without sysctls, which are written every time."""
    return replace(plan, sysctls=())
