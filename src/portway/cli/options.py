"""Options that several commands share, so that they are called and explained alike everywhere."""

from __future__ import annotations

from typing import Annotated

import typer

from portway.cli.show import Output

Name = Annotated[str, typer.Option("--name", envvar="PORTWAY_NAME", help="Which cluster, if you have several.")]
Format = Annotated[Output, typer.Option("-o", "--output", help="table or json.")]
_MOST_SECONDS = 86400.0


def some_seconds(value: float) -> float:
    """Of a timeout: not none, not less than none, and no more than a wait of the kernel takes."""
    if not 0 < value <= _MOST_SECONDS:  # nan is not, either
        raise typer.BadParameter(f"{value:g} is no time to wait: give it more than 0 and at most {_MOST_SECONDS:g}")
    return value
