"""`portway publish`: addresses of the lab on the user's own 127.0.0.1, while the cluster runs."""

from __future__ import annotations

from typing import Annotated

import typer

from portway.cli.options import Format, Name
from portway.cli.session import DEFAULT_NAME, Session
from portway.cli.show import Output, as_json, published, say

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Make addresses of the lab reachable on 127.0.0.1.")


@app.command(short_help="Publish an address.")
def add(
    address: Annotated[
        str, typer.Argument(metavar="PORT:ADDRESS:PORT", help="Yours, then the lab's; /udp behind it for UDP.")
    ],
    name: Name = DEFAULT_NAME,
) -> None:
    """Make an address of the lab reachable on 127.0.0.1, as the host client would reach it.

    \b
    portway publish add 8080:10.100.0.2:30080
    portway publish add 5353:10.3.240.10:53/udp
    """
    added = Session.of(name).call("publish-add", publish=address)
    say(f"published {added['published']}")


@app.command(short_help="Take one back.")
def remove(
    port: Annotated[str, typer.Argument(metavar="PORT", help="The port on 127.0.0.1; /udp behind it for UDP.")],
    name: Name = DEFAULT_NAME,
) -> None:
    """Stop publishing at a port of 127.0.0.1; connections through it end.

    \b
    portway publish remove 8080
    portway publish remove 5353/udp
    """
    gone = Session.of(name).call("publish-remove", publish=port)
    say(f"no longer published: {gone['published']}")


@app.command("list", short_help="List what is published.")
def list_(
    output: Format = Output.TABLE,
    name: Name = DEFAULT_NAME,
) -> None:
    """List the published addresses, their open connections and what went wrong last.

    \b
    portway publish list
    """
    found = Session.of(name).call("published")
    say(as_json(found) if output is Output.JSON else published(found))
