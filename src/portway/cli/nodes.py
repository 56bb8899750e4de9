"""`portway node`: nodes that join, leave, lose their power and get it back."""

from __future__ import annotations

from typing import Annotated

import typer

from portway.cli.options import Format, Name
from portway.cli.session import DEFAULT_NAME, Session
from portway.cli.show import Output, as_json, hosts, say

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Add, remove, stop, start and list nodes.")

Node = Annotated[str, typer.Argument(metavar="NODE", help="The node's name, for example node-3.")]
_PATIENCE = 180.0


@app.command(short_help="Add a node.")
def add(node: Node, name: Name = DEFAULT_NAME) -> None:
    """Add a node with the next free address, and return when it is ready.

    \b
    portway node add node-3
    """
    added = Session.of(name).call("node-add", timeout=_PATIENCE, node=node)
    say(f"{added['name']} is ready: {', '.join(added['addresses'])}")


@app.command(short_help="Move its pods, take it away.")
def remove(
    node: Node,
    timeout: Annotated[float, typer.Option("--timeout", help="How long to wait for replacements, in seconds.")] = 60.0,
    name: Name = DEFAULT_NAME,
) -> None:
    """Move a node's pods to the others, then take it away.

    \b
    portway node remove node-3
    """
    gone = Session.of(name).call("node-remove", timeout=_PATIENCE + timeout, node=node, seconds=timeout)
    left = gone["left"]
    say(f"{node} is gone" + (f"; pods that did not move in time: {', '.join(left)}" if left else ""))


@app.command(short_help="Pull its plug.")
def stop(node: Node, name: Name = DEFAULT_NAME) -> None:
    """Switch a node off, as if its plug were pulled: its pods are gone at once, and the cluster must find out.

    \b
    portway node stop node-1
    """
    Session.of(name).call("node-stop", timeout=_PATIENCE, node=node)
    say(f"{node} is off")


@app.command(short_help="Switch it on again.")
def start(node: Node, name: Name = DEFAULT_NAME) -> None:
    """Switch a node on again, with its name and addresses, and return when it is ready.

    \b
    portway node start node-1
    """
    Session.of(name).call("node-start", timeout=_PATIENCE, node=node)
    say(f"{node} is ready")


@app.command("list", short_help="List the nodes.")
def list_(
    output: Format = Output.TABLE,
    name: Name = DEFAULT_NAME,
) -> None:
    """List the nodes, their addresses and whether they are on and ready.

    \b
    portway node list
    """
    found = [h for h in Session.of(name).call("status")["hosts"] if h["role"] == "node"]
    say(as_json(found) if output is Output.JSON else hosts(found, ("NODE", "name"), ("STATE", "state")))
