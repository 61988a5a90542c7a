"""``audit``: read the trail, sign where it stands, prove that nobody changed it."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from governor_agents.cli.opening import AsJson, Globals, Place, StoreUrl, Tenant, there
from governor_agents.cli.printing import counting, hint, left_out, note, print_facts, print_json, print_table, say
from governor_agents.core.calls import freeze
from governor_agents.errors import ConfigError
from governor_agents.handlers.message import visible, when

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from governor_agents.audit.checkpoints import Checkpoint
    from governor_agents.audit.log import Published, Report
    from governor_agents.governor import Governor

app: typer.Typer = typer.Typer(
    help="The audit trail: read it, sign where it stands, prove that nobody changed it.", no_args_is_help=True
)

RunId = Annotated[str, typer.Argument(metavar="[RUN]", help="Only this run.", show_default=False)]
Out = Annotated[str | None, typer.Option("--out", metavar="FILE", help="Write it to this new file.")]


class Format(StrEnum):
    """What `audit export` writes."""

    JSONL = "jsonl"
    CSV = "csv"


@app.command("list")
def list_(
    ctx: typer.Context,
    run: RunId = "",
    since: Annotated[
        str, typer.Option("--since", metavar="TIME", help="2026-11-30, 2026-11-30T12:00, or 2h ago.")
    ] = "",
    until: Annotated[str, typer.Option("--until", metavar="TIME", help="The same.")] = "",
    what: Annotated[str, typer.Option("--what", metavar="PREFIX", help="Only events that begin so: call.")] = "",
    security: Annotated[bool, typer.Option("--security", help="What was refused, in place of what happened.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, metavar="N", help="The newest N.")] = 100,
    as_json: AsJson = False,
    store: StoreUrl = None,
    tenant: Tenant = None,
) -> int:
    """List events, oldest first: of all runs, halts and policies, of one run, or of requests that were refused.

    Exit code 1 when some of them cannot be read.
    """
    now = time.time()
    missing: list[str] = []
    wanted = {
        "since": moment(since, now) if since else float("-inf"),
        "until": moment(until, now) if until else float("inf"),
        "what": what,
    }

    async def work(governor: Governor) -> list[dict[str, Any]]:
        await governor.open()
        found = governor.audit.newest(run, security=security, limit=limit + 1, skipped=missing.append, **wanted)  # type: ignore[arg-type]
        return await governor.loop.bridge(found)

    events = Place.of(ctx, store, tenant).run(work)
    for why in missing:
        left_out(why)
    more, events = len(events) > limit, events[-limit:]
    if as_json:
        print_json(events)
    elif not events and not missing:
        hint("nothing was refused" if security else "no such events")
    elif events and security:
        heads = ("AT", "WHAT", "ASKED TO", "ID", "BY", "CHANNEL")
        print_table(heads, [_cells(event, "what", "asked", "id", "by", "channel") for event in events])
    elif events:
        print_table(("AT", "RUN", "SEQ", "WHAT", "CALL", "BY"), [_row(event) for event in events])
    if more:
        note("there are older ones: see --limit, --since and --until")
    return 1 if missing else 0


def _cells(event: dict[str, Any], *names: str) -> tuple[str, ...]:
    count = f" {event['count']}" if "count" in event else ""
    cells = [visible(str(event.get(name, ""))) + (count if name == "what" else "") for name in names]
    return (when(float(event.get("at", 0.0))), *cells)


def _row(event: dict[str, Any]) -> tuple[str, ...]:
    whose = "policies" if "policies" in event else event.get("halt", "")
    trail = {"run": str(event.get("removed") or f"({whose})")}
    at, run, seq, what, by = _cells(trail | event, "run", "seq", "what", "by")
    call = f"#{event['n']} {event.get('tool', '')}".rstrip() if "n" in event else ""
    return at, run, seq, what, visible(call), by


def moment(text: str, now: float) -> float:
    """Epoch seconds of a time as people write it: a date or a time (UTC unless it says otherwise), or ``2h`` ago."""
    from governor_agents.policies.values import seconds

    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except ValueError:
        pass
    try:
        return now - seconds(text)
    except ConfigError:
        raise ConfigError(f"{text!r} is no time; write 2026-11-30, 2026-11-30T12:00 or 2h (ago)") from None


@app.command()
def checkpoint(
    ctx: typer.Context,
    full: Annotated[bool, typer.Option("--full", help="Of every run, not only those that changed.")] = False,
    out: Out = None,
    as_json: AsJson = False,
    store: StoreUrl = None,
    tenant: Tenant = None,
) -> None:
    """Sign where all trails stand, keep that in the store, and give it to be kept elsewhere too."""

    async def work(governor: Governor) -> tuple[Checkpoint | None, bool]:
        await governor.open()
        made = await governor.loop.bridge(governor.audit.checkpoints.make(full=full))
        return made or await governor.loop.bridge(governor.audit.checkpoints.last()), made is not None

    from governor_agents.audit.checkpoints import to_document

    place = Place.of(ctx, store, tenant)
    place.check()
    with _new(out) as file:
        found, fresh = place.run(work)
        if found is None:
            raise ConfigError("there is nothing to sign yet")
        if out is not None:
            file.write(freeze(to_document(found)).decode() + "\n")
    if not fresh:
        hint(f"nothing changed since checkpoint {found.number}")
    if as_json:
        print_json(to_document(found))
        return
    said = found.said
    say(f"checkpoint {found.number} of {when(said['at'])}", "bold")
    heads = "all trails" if said["full"] else "those that changed"
    print_facts((("heads", f"{said['heads']} ({heads})"), ("sha256", found.digest), ("key", said["key"])))
    if out is not None:
        say(f"written to {visible(out)}; keep it where nobody who can write to the store can write")


@contextmanager
def _new(name: str | None) -> Iterator[TextIO]:
    """A new file, or stdout. Raises `ConfigError`; never writes over one that exists, leaves none after an error."""
    if name is None:
        yield sys.stdout
        return
    try:
        file = Path(name).open("x", encoding="utf-8", newline="")  # noqa: SIM115, closed below
    except FileExistsError:
        raise ConfigError(f"{name} exists already; name a new file") from None
    except OSError as error:
        raise ConfigError(f"{name} cannot be written: {error.strerror}") from None
    try:
        with file:
            yield file
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@app.command()
def export(
    ctx: typer.Context,
    run: RunId = "",
    out: Out = None,
    format: Annotated[Format, typer.Option("--format", help="jsonl can be verified, csv be read.")] = Format.JSONL,
    store: StoreUrl = None,
    tenant: Tenant = None,
) -> int:
    """Write the whole trail, refused requests too: each event with its place in the chain.

    Exit code 1 when some of it could not be read.
    """
    from governor_agents.audit.export import csv_head, to_csv, to_jsonl

    place = Place.of(ctx, store, tenant)
    place.check()
    missing: list[str] = []
    with _new(out) as file:
        if format is Format.CSV:
            file.write(csv_head())

        async def copy(governor: Governor) -> int:
            count = 0
            for security in (False,) if run else (False, True):
                async for record, events in governor.audit.trails(run, security=security, skipped=missing.append):
                    file.write(to_jsonl(events) if format is Format.JSONL else to_csv(record.id, events))
                    count += len(events)
            return count

        async def work(governor: Governor) -> int:
            await governor.open()
            return await governor.loop.bridge(copy(governor))

        count = place.run(work)
    if out is not None:
        hint(f"{count} events written to {visible(out)}")
    for why in missing:
        left_out(why)
    return 1 if missing else 0


@app.command()
def verify(
    ctx: typer.Context,
    run: RunId = "",
    checkpoints: Annotated[
        list[str] | None,
        typer.Option("--checkpoint", metavar="FILE", help="A checkpoint that was kept elsewhere. May be repeated."),
    ] = None,
    public_key: Annotated[
        list[str] | None,
        typer.Option("--public-key", metavar="HEX|FILE", help="Who may have signed: as `keys list` prints it, or PEM."),
    ] = None,
    file: Annotated[
        str | None, typer.Option("--file", metavar="EXPORT", help="An exported trail (jsonl), in place of a store.")
    ] = None,
    as_json: AsJson = False,
    store: StoreUrl = None,
    tenant: Tenant = None,
) -> int:
    """Look for anything that was changed, cut off, taken out or put back. Exit code 1 when there is."""
    published = [_published(name) for name in checkpoints or ()]
    public = [_public(text) for text in public_key or ()]
    place = Place.of(ctx, store, tenant)
    if file is not None:
        report = _verify_file(file, published, public, tenant or (ctx.find_object(Globals) or Globals()).tenant, run)
    else:
        with counting() as stage:
            seen = stage("trails looked at")

            async def work(governor: Governor) -> Report:
                await governor.open()
                found = governor.audit.verify(run, published=published, public=public, seen=seen)
                return await governor.loop.bridge(found)

            report = place.run(work)
    _print_report(report, as_json, place)
    return 1 if report.findings else 0


def _published(name: str) -> Published:
    from governor_agents.audit.checkpoints import from_document
    from governor_agents.audit.log import Published

    return Published(name, from_document(_read(name), name))


def _public(text: str) -> Ed25519PublicKey:
    from governor_agents.audit.checkpoints import public_key

    if there(Path(text)):
        return public_key(_read(text), text)
    if not re.fullmatch("[0-9a-fA-F]{64}", text):
        raise ConfigError(f"{text} is neither 64 hex digits nor a file; `governor-agents keys list` prints the key")
    return public_key(text.encode(), text)


def _read(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise ConfigError(f"{name} cannot be read: {error.strerror}") from None


def _verify_file(
    name: str, published: Sequence[Published], public: list[Ed25519PublicKey], tenant: str | None, run: str
) -> Report:
    """Check an export; with ``GOVERNOR_KEYS`` its MACs too, and the checkpoints with the key of its own."""
    from governor_agents.audit.export import verify_export
    from governor_agents.keys import chosen

    keys = chosen(None)
    signers = public or ([keys.signing.public_key()] if keys is not None else [])
    if published and not signers:
        raise ConfigError("no key to check the checkpoints with: --public-key, or GOVERNOR_KEYS in the environment")
    key = None if keys is None else keys.audit
    try:
        with Path(name).open("rb") as lines:
            report = verify_export(lines, published, signers, key=key, tenant=tenant, run=run, file=name)
    except OSError as error:
        raise ConfigError(f"{name} cannot be read: {error.strerror}") from None
    if run and not report.trails:  # neither the export nor a checkpoint knows it
        raise ConfigError(f"no run {run} in {name}")
    return report


def _print_report(report: Report, as_json: bool, place: Place) -> None:
    if as_json:
        findings = [
            {"code": each.code, "kind": each.kind, "id": each.id, "seq": each.seq, "means": each.means}
            for each in report.findings
        ]
        counts = {"trails": report.trails, "events": report.events, "checkpoints": report.checkpoints}
        print_json({"findings": findings, **counts, "unkeyed": report.unkeyed, "removed": report.removed})
        return
    for each in report.findings:
        where = "" if each.kind == "checkpoint" else f"{visible(each.id)} event {each.seq}: "
        say(f"{each.code:<11} {where}{visible(each.means)}")
    looked = f"{_count(report.trails, 'trail')}, {_count(report.events, 'event')}, "
    looked += _count(report.checkpoints, "checkpoint")
    say(
        f"{_count(len(report.findings), 'finding')} in {looked}"
        if report.findings
        else f"nothing was changed: {looked}"
    )
    if report.removed:
        say(f"{_count(report.removed, 'run')} removed by retention, by the account of it")
    if not report.checkpoints:
        make = place.commands.line("audit checkpoint")
        hint(f"without a checkpoint nobody can tell whether an end was cut off: {make}")
    if report.unkeyed:
        hint(f"{_count(report.unkeyed, 'trail')} without keys: whoever can write to the store can write those anew")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
