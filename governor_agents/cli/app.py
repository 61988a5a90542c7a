"""The root of the command line: global options, the groups, and what becomes of an error."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

import typer

from governor_agents.cli import (
    attending,
    audit,
    demo,
    halt,
    inbox,
    keys,
    moves,
    people,
    policy,
    quarantine,
    resolve,
    runs,
    serve,
    slack,
    store,
    timeline,
    worker,
)
from governor_agents.cli.opening import Globals, PeopleOption, StoreUrl, Tenant
from governor_agents.cli.printing import note
from governor_agents.errors import GovernorError
from governor_agents.handlers.visible import visible

app: typer.Typer = typer.Typer(
    help="Tool calls of AI agents that wait for a person, survive the process, and run once.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo.demo)
app.add_typer(inbox.app, name="inbox")
for command in (attending.delegate, attending.reassign, attending.claim, attending.comment):
    inbox.app.command(command.__name__)(command)
app.add_typer(runs.app, name="runs")
app.add_typer(audit.app, name="audit")
app.add_typer(keys.app, name="keys")
app.add_typer(store.app, name="store")
store.app.command("copy")(moves.copy)
store.app.command("export")(moves.export)
store.app.command("import")(moves.import_)
store.app.command("quarantine")(quarantine.quarantine)
app.add_typer(policy.app, name="policy")
app.add_typer(people.app, name="people")
app.add_typer(slack.app, name="slack")
app.command("worker")(worker.worker)
app.command("serve")(serve.serve)
app.command("halt")(halt.halt)
runs.app.command("timeline")(timeline.timeline)
runs.app.command("resolve")(resolve.resolve)
runs.app.command("repair")(resolve.repair)

BEFORE = {"--store": "URL", "--tenant": "NAME", "--people": "FILE", "--debug": ""}
"""The options before the command, and what they take."""


def _version(asked: bool) -> None:
    if not asked:
        return
    try:
        found = version("governor-agents")
    except PackageNotFoundError:
        found = "(from a source tree that is not installed)"
    sys.stdout.write(f"governor-agents {found}\n")
    raise typer.Exit


@app.callback()
def _options(
    ctx: typer.Context,
    store_url: StoreUrl = None,
    tenant: Tenant = None,
    people_file: PeopleOption = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")] = False,
    asked_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    found = ctx.ensure_object(Globals)
    found.store, found.tenant, found.people, found.debug = store_url, tenant, people_file, debug


def run(arguments: Sequence[str]) -> int:
    """Run one command line; its exit code. An error is one line on stderr."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that knows fewer letters must not end in a traceback
            stream.reconfigure(errors="backslashreplace")
    options = Globals()
    try:
        code = app(list(arguments), obj=options, standalone_mode=False, prog_name="governor-agents")
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except BrokenPipeError:
        # Whoever read has seen enough. Python must not find the broken pipe again when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (Exception, KeyboardInterrupt) as error:
        if options.debug:
            traceback.print_exc()
        return _failed(error)


def _failed(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":
        return 130
    if type(error).__name__ == "NoArgsIsHelpError":
        sys.stderr.write(str(error))
        return 2
    if isinstance(error, GovernorError):
        note(visible(str(error)))
    elif callable(told := getattr(error, "format_message", None)):  # an error of usage, whichever click it comes from
        said = " ".join(told().replace("Value error, ", "").split())
        note(f"{visible(_before(error) or said)} (see {_path(error)} --help)")
    else:
        note(f"{type(error).__name__}: {visible(str(error))} (governor-agents --debug COMMAND shows where)")
    return 2


def _before(error: Any) -> str:
    """What to say of an option that stands behind the command and belongs before it; empty for any other error."""
    option, path = getattr(error, "option_name", None), _path(error)
    if type(error).__name__ != "NoSuchOption" or option not in BEFORE:
        return ""
    own, _, command = path.partition(" ")
    words = " ".join(filter(None, (option, BEFORE[option])))
    return f"{option} stands before the command: {own} {words} {command} ..."


def _path(error: Any) -> str:
    context = getattr(error, "ctx", None)
    return str(context.command_path) if context is not None else "governor-agents"
