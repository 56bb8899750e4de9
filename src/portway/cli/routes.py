"""`portway route`: what a network administrator would do by hand at the edge, or at any other host of the lab."""

from __future__ import annotations

from typing import Annotated

import typer

from portway.cli.options import Format, Name
from portway.cli.session import DEFAULT_NAME, Session
from portway.cli.show import Output, as_json, say, table

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Add, delete and list routes of a host.")

Host = Annotated[str, typer.Option("--host", help="The host whose table it is.")]
Destination = Annotated[str, typer.Argument(metavar="NETWORK", help="For example 10.3.240.0/20.")]


@app.command(short_help="Send a network through a node.")
def add(
    destination: Destination,
    via: Annotated[str, typer.Option("--via", help="A node's name, or an address next to the host.")],
    host: Host = "edge",
    name: Name = DEFAULT_NAME,
) -> None:
    """Send a network through a node: the edge then forwards packets for it there.

    \b
    portway route add 10.3.240.0/20 --via node-1
    """
    added = Session.of(name).call("route-add", destination=destination, via=via, host=host)
    say(f"{added['host']}: {added['destination']} via {added['via']}")


@app.command(short_help="Delete an added route.")
def delete(destination: Destination, host: Host = "edge", name: Name = DEFAULT_NAME) -> None:
    """Delete a route that was added with `portway route add`.

    \b
    portway route delete 10.3.240.0/20
    """
    gone = Session.of(name).call("route-delete", destination=destination, host=host)
    say(f"{gone['host']}: {gone['destination']} is gone")


@app.command("list", short_help="List a host's routes.")
def list_(
    host: Host = "edge",
    output: Format = Output.TABLE,
    name: Name = DEFAULT_NAME,
) -> None:
    """List the routes of a host, and who added each.

    \b
    portway route list
    portway route list --host node-1 -o json
    """
    found = Session.of(name).call("routes", host=host)
    rows = [(r["destination"], r["via"] or "-", r["link"] or "-", r["owner"]) for r in found]
    say(as_json(found) if output is Output.JSON else table(("DESTINATION", "VIA", "LINK", "ADDED BY"), rows))
