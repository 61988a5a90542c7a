"""``worker``: take due work from the store: tell people, resume decided runs, expire late ones."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from typing import TYPE_CHECKING, Annotated

import typer

from governor_agents.cli.loading import check_store, load_governors
from governor_agents.cli.opening import Globals, StoreUrl
from governor_agents.cli.printing import note
from governor_agents.core.urls import shown
from governor_agents.handlers.visible import visible

if TYPE_CHECKING:
    from governor_agents.governor import Governor


def worker(
    ctx: typer.Context,
    spec: Annotated[
        str, typer.Argument(metavar="APP:GOVERNOR", help="Module and name of the governor that registers the agents.")
    ],
    once: Annotated[bool, typer.Option("--once", help="End when nothing is due.")] = False,
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, metavar="N", help="Runs at a time.")] = 4,
    checkpoint_every: Annotated[
        float,
        typer.Option(
            "--checkpoint-every",
            min=1,
            metavar="SECONDS",
            help="With keys: between two checkpoints of the audit trail.",
        ),
    ] = 60.0,
    store: StoreUrl = None,
) -> None:
    """Take due work: tell people, go on with decided runs, expire late ones. SIGTERM lets runs in hand come to rest."""
    store = store or (ctx.find_object(Globals) or Globals()).store
    if store is not None:
        os.environ["GOVERNOR_STORE"] = store  # what the governor of the app takes by default
    governors = load_governors(spec, (ctx.find_object(Globals) or Globals()).people)
    for governor in governors:
        check_store(spec, governor, store)
    _log()
    if not once:
        note(f"working on {_of(governors)}; SIGTERM or Ctrl-C ends it")
    done = asyncio.run(_work(governors, once, concurrency, checkpoint_every))
    if once:  # a worker that goes on counts nothing; its log says what it did
        note(f"{done} {'step' if done == 1 else 'steps'} done")


def _of(governors: list[Governor]) -> str:
    """The stores, and the tenants where that is not the usual one."""
    told = []
    for governor in governors:
        tenant = "" if governor.tenant == "default" else f" (tenant {governor.tenant})"
        told.append(shown(governor.store.url) + tenant)
    return visible(", ".join(dict.fromkeys(told)))


async def _work(governors: list[Governor], once: bool, concurrency: int, every: float) -> int:
    from governor_agents.worker import Worker

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stopping() -> None:
        stop.set()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)  # the second signal ends it at once

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping)
    try:
        worker = Worker(*governors, concurrency=concurrency, checkpoint_every=every)
        return await worker.run(once=once, stop=stop)
    finally:
        for governor in governors:
            await governor.close()


class _Visible(logging.Formatter):
    """Log lines hold ids and errors of foreign origin."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = visible(record.message)
        return super().formatMessage(record)


def _log() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_Visible("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("governor_agents")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
