"""Options that several commands share, so that they are called and explained alike everywhere."""

from __future__ import annotations

from typing import Annotated

import typer

from portway.cli.show import Output

Name = Annotated[str, typer.Option("--name", envvar="PORTWAY_NAME", help="Which cluster, if you have several.")]
Format = Annotated[Output, typer.Option("-o", "--output", help="table or json.")]
