"""The `portway` command: its words, options and help; everything else happens in the modules that it calls.

`main` is the entry point. It turns every error that has a cure into one line on standard error and an exit code; what is left is
a bug and says so. The commands of a group stand in a module of their own (`nodes`, `routes`).
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, Optional

import typer

from portway.cli import nodes, publish, routes
from portway.cli.enter import CannotEnter, enter
from portway.cli.errors import UserError
from portway.cli.options import Format, Name, some_seconds
from portway.cli.session import DEFAULT_NAME, Session
from portway.cli.show import Output, as_json, complain, say
from portway.cli.show import status as status_text
from portway.lab.versions import of_running

app = typer.Typer(
    name="portway",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    help="""The road from the outside of a Kubernetes cluster to a pod, on one machine, with real packets.

    \b
    portway up                              a cluster of two nodes, in a second or two
    portway kubectl apply -f FILE           the bundled kubectl, speaking to it
    portway exec client -- COMMAND          a command in the network of a host
    portway down                            everything gone
    """,
)
app.add_typer(nodes.app, name="node")
app.add_typer(routes.app, name="route")
app.add_typer(publish.app, name="publish")

Arguments = Annotated[Optional[list[str]], typer.Argument(metavar="ARGS...")]  # noqa: UP045 - typer reads it at run time
_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}


@app.command(short_help="Bring a cluster up.")
def up(
    nodes: Annotated[Optional[int], typer.Option("--nodes", min=1, max=253, help="How many nodes (default 2).")] = None,  # noqa: UP045
    image: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--image", metavar="NAME=COMMAND", help="What to run for an image of this name; repeatable."),
    ] = None,
    zones: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--zones", min=1, max=26, help="Spread the nodes over so many zones: zone-a, zone-b ..."),
    ] = None,
    published: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--publish", metavar="PORT:ADDRESS:PORT", help="Make an address reachable on 127.0.0.1; repeatable."
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", callback=some_seconds, help="Give up after so many seconds.")
    ] = 60.0,
    userns: Annotated[bool, typer.Option("--userns", help="Use a user namespace even as root.")] = False,
    name: Name = DEFAULT_NAME,
) -> None:
    """Bring a cluster up, and return when its nodes are ready and its Services answer.

    \b
    portway up
    portway up --nodes 3 --zones 3
    portway up --publish 8080:10.100.0.2:30080 --publish 5353:10.3.240.10:53/udp
    portway up --image registry.example.com/shop:1.2="python3 /srv/shop.py"
    """
    from portway.cli import lifecycle

    order = lifecycle.order(
        nodes=nodes, images=image or (), zones=zones, publish=published or (), timeout=timeout, userns=userns
    )
    lifecycle.up(Session.of(name), order)


@app.command(short_help="End a cluster, remove all of it.")
def down(name: Name = DEFAULT_NAME) -> None:
    """End a cluster and remove everything that it made, its objects included.

    \b
    portway down
    portway down --name test
    """
    from portway.cli import lifecycle

    lifecycle.down(Session.of(name))


@app.command(short_help="Show hosts, addresses and agents.")
def status(output: Format = Output.TABLE, name: Name = DEFAULT_NAME) -> None:
    """Show hosts, addresses and agents; exit code 0 only if all of them are ready.

    \b
    portway status
    portway status -o json
    """
    session = Session.of(name)
    try:
        found = session.call("status")
    except UserError as e:
        if output is Output.JSON:
            say(as_json({"ready": False, "error": str(e), "hosts": [], "agents": [], "versions": of_running()}))
        raise
    say(as_json(found) if output is Output.JSON else status_text(found))
    raise typer.Exit(0 if found["ready"] else 1)


@app.command("exec", short_help="Run a command in a host or a pod.", context_settings=_PASS_ON)
def exec_(
    host: Annotated[
        str, typer.Argument(metavar="HOST", help="client, edge, a node, or pod/NAMESPACE/NAME[/CONTAINER].")
    ],
    command: Annotated[list[str], typer.Argument(metavar="COMMAND...", help="The command, after --.")],
    name: Name = DEFAULT_NAME,
) -> None:
    """Run a command of this machine in the network of a host, or a command in a pod.

    \b
    portway exec client -- python3 examples/request.py http://10.100.0.2:30080/
    portway exec node-1 -- cat /proc/net/route
    portway exec pod/default/web-5d9c7/web -- hostname
    """
    session = Session.of(name)
    command = command[1:] if command[0] == "--" else command
    if host.startswith("pod/"):
        session.kubectl(_pod_command(host, command))
    known = session.running()
    hosts = {h["name"]: h for h in session.call("status")["hosts"]}
    if host not in hosts:
        raise UserError(f"there is no host {host!r}: choose one of {', '.join(hosts)}, or pod/NAMESPACE/NAME")
    if not hosts[host]["namespace"]:
        raise UserError(f"{host} is switched off: portway node start {host}{session.named}")
    if known.supervisor is None:
        raise UserError(f"{session.folder.state_file} names no supervisor: run portway down{session.named}, then up")
    enter(known.supervisor.pid, hosts[host]["namespace"], command, session.folder)


def _pod_command(host: str, command: list[str]) -> list[str]:
    """kubectl's words for a command in pod/NAMESPACE/NAME[/CONTAINER]."""
    parts = host.split("/")
    if len(parts) not in (3, 4) or not all(parts):
        raise UserError(f"{host!r} names no pod: write pod/NAMESPACE/NAME or pod/NAMESPACE/NAME/CONTAINER")
    flags = ["-i", "-t"] if sys.stdin.isatty() and sys.stdout.isatty() else ["-i"]
    container = ["-c", parts[3]] if len(parts) == 4 else []
    return ["exec", "--quiet", "-n", parts[1], *flags, parts[2], *container, "--", *command]


@app.command(short_help="Run the bundled kubectl.", context_settings=_PASS_ON)
def kubectl(arguments: Arguments = None, name: Name = DEFAULT_NAME) -> None:
    """Run the bundled kubectl with the kubeconfig of the cluster.

    \b
    portway kubectl get pods --all-namespaces
    portway kubectl apply -f examples/01-the-road-opens
    portway kubectl get --help              the help of kubectl itself
    """
    Session.of(name).kubectl(arguments or [])


@app.command(context_settings=_PASS_ON)
def bench(arguments: Arguments = None) -> None:
    """Measure Portway on this machine.

    \b
    portway bench startup
    portway bench startup --help
    """
    from portway.cli.bench import app as bench_app

    bench_app(arguments or ["--help"], prog_name="portway bench")


@app.command()
def kubeconfig(name: Name = DEFAULT_NAME) -> None:
    """Print the path of the kubeconfig.

    \b
    export KUBECONFIG=$(portway kubeconfig)
    """
    session = Session.of(name)
    session.running()
    say(str(session.folder.kubeconfig))


@app.command(short_help="Say what this machine lacks.")
def doctor(
    output: Format = Output.TABLE,
    every: Annotated[bool, typer.Option("--all", help="Also what only some commands need.")] = False,
) -> None:
    """Say what this machine has and lacks for Portway, what each thing is for, and the cure.

    \b
    portway doctor
    portway doctor --all -o json
    """
    from portway.cli.doctor import examine, text

    checks = examine(every=every)
    good = all(c.ok for c in checks)
    say(as_json({"ok": good, "checks": [c.as_dict() for c in checks]}) if output is Output.JSON else text(checks))
    raise typer.Exit(0 if good else 1)


@app.command(short_help="Print versions.")
def version(output: Format = Output.TABLE) -> None:
    """Print the versions of Portway, of kubectl and of the Kubernetes API.

    \b
    portway version
    """
    found = of_running()
    say(as_json(found) if output is Output.JSON else "\n".join(f"{k} {v}" for k, v in found.items()))


def main() -> None:
    """Run the command line and exit."""
    from portway.lab.state import StateError

    try:
        app(prog_name="portway")
    except (UserError, CannotEnter) as e:
        complain(f"portway: {e}")
        sys.exit(e.code)
    except StateError as e:
        complain(f"portway: {e}")
        sys.exit(1)
    except KeyboardInterrupt:
        complain("portway: interrupted")
        sys.exit(130)
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - so that Python's own flush at exit is silent
        sys.exit(141)
    except Exception as e:  # noqa: BLE001 - the last resort: a person gets a sentence, the log the traceback
        complain(f"portway: {type(e).__name__}: {e}; this is a bug, please report it{_keep(e)}")
        sys.exit(70)


def _keep(bug: Exception) -> str:
    """Append the traceback to bug.log in the state folder; the words that say where."""
    import traceback

    from portway.lab import state

    trace = "".join(traceback.format_exception(bug))

    try:
        path = state.home(os.environ) / "bug.log"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(path, "a") as file:
            file.write(trace)
    except (OSError, state.StateError):
        return f":\n{trace}"
    return f" with {path}"


if __name__ == "__main__":
    main()
