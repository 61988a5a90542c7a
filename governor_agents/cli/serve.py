"""``serve``: the pages on which people decide."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from governor_agents.cli.loading import check_store, load_governors
from governor_agents.cli.opening import Globals, StoreUrl
from governor_agents.cli.printing import note
from governor_agents.errors import ConfigError, StoreUnavailable
from governor_agents.handlers.visible import visible
from governor_agents.plugins import require

if TYPE_CHECKING:
    from governor_agents.governor import Governor

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(
    ctx: typer.Context,
    spec: Annotated[
        str, typer.Argument(metavar="APP:GOVERNOR", help="Module and name of the governor whose requests are decided.")
    ],
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Where to listen; by default this machine alone.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, metavar="N", help="0 takes a free one.")] = 8484,
    public_url: Annotated[
        str | None,
        typer.Option(
            "--public-url",
            metavar="URL",
            envvar="GOVERNOR_PUBLIC_URL",
            help="Where people reach the pages, such as https://approvals.example.com.",
        ),
    ] = None,
    names: Annotated[
        list[str] | None, typer.Option("--name", metavar="HOST", help="A further host name that is answered to.")
    ] = None,
    trusted_proxies: Annotated[
        list[str] | None,
        typer.Option(
            "--trusted-proxy", metavar="NETWORK", help="Whose X-Forwarded-For is believed: an address or a network."
        ),
    ] = None,
    store: StoreUrl = None,
) -> None:
    """Serve the pages on which people decide. SIGTERM lets requests in hand be answered."""
    store = store or (ctx.find_object(Globals) or Globals()).store
    if store is not None:
        os.environ["GOVERNOR_STORE"] = store  # what the governor of the app takes by default
    require("fastapi", "server")
    require("uvicorn", "server")
    require("jinja2", "server")
    from governor_agents.server import create_app
    from governor_agents.server.running import bound, log_lines
    from governor_agents.server.running import serve as run

    governor = _governor(spec, store, (ctx.find_object(Globals) or Globals()).people)
    _open(governor)
    listening = bound(host, port)
    at = listening.getsockname()[1]
    try:
        app = create_app(
            governor,
            public_url=public_url or governor.desk.public_url or _own_url(host, at),
            hosts=tuple(names or ()),
            trusted_proxies=tuple(trusted_proxies or ()),
        )
        log_lines()
        note(f"pages at {app.state.site.settings.public_url} (listening on {host} port {at})")
        run(app, listening)
    finally:
        listening.close()
        governor.close_sync()


def _governor(spec: str, store: str | None, people: str | None) -> Governor:
    found = load_governors(spec, people)
    if len(found) > 1:
        raise ConfigError(f"{spec} is a list; the pages are those of one tenant, so name one governor")
    governor = found[0]
    check_store(spec, governor, store)
    return governor


def _open(governor: Governor) -> None:
    """Find now what is wrong with the store; one that is only away may come back, and until then nothing is ready."""
    try:
        governor.caller_loop.call(governor.open())
    except StoreUnavailable as error:
        note(f"not ready yet: {visible(str(error))}")


def _own_url(host: str, port: int) -> str:
    """Where a server on this machine is reached from it."""
    if host not in LOOPBACK:
        raise ConfigError(f"--host {host}: say where people reach it, with --public-url https://approvals.example.com")
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
