"""Checks of a trail, each by itself: is it one chain, under our key, as long as its record and its checkpoints say.

| Check | Finds |
|---|---|
| `places` | an event that is missing in the middle, put in, or moved; bytes that are no event |
| `links` | an event that was changed, put in or taken out by somebody who did not compute the rest anew |
| `macs` | the same by somebody who did, but lacks the audit key; a keyed chain that goes on without a key |
| `end` | a cut at the end, or a record that was put back, as long as record and events disagree |
| `pinned` | everything before a checkpoint, whoever did it: also with the audit key, also record and events together |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from governor_agents.audit import chain
from governor_agents.audit.trail import NAMED, Finding, Trail
from governor_agents.core.calls import sha256

Check = Callable[[Trail, bytes | None], Iterator[Finding]]


def check(trail: Trail, key: bytes | None, checks: Sequence[Check] | None = None) -> list[Finding]:
    """What is wrong with a trail. ``key`` is the audit key; without it no MAC can be checked."""
    return [finding for each in (CHECKS if checks is None else checks) for finding in each(trail, key)]


def _found(trail: Trail, code: str, seq: int, means: str) -> Finding:
    return Finding(code, trail.kind, trail.id, seq, means)


def places(trail: Trail, key: bytes | None) -> Iterator[Finding]:
    """Every event stands in its place, and is one of this trail."""
    expected = 1
    for event in trail.events:
        line = chain.parse(event.body)
        if event.seq != expected:
            gone = f"event {expected} is" if event.seq == expected + 1 else f"events {expected} to {event.seq - 1} are"
            words = "is there twice or out of order" if event.seq < expected else f"comes next, but {gone} missing"
            yield _found(trail, "missing", expected, f"event {event.seq} {words}")
        if line is None:
            yield _found(trail, "unreadable", event.seq, f"event {event.seq} is not one that was ever written")
        elif line.get("seq") != event.seq:
            yield _found(trail, "moved", event.seq, f"event {line.get('seq')} stands in the place of event {event.seq}")
        elif line.get(NAMED[trail.kind]) != trail.id:
            yield _found(trail, "foreign", event.seq, f"event {event.seq} belongs to another trail")
        expected = event.seq + 1


def links(trail: Trail, key: bytes | None) -> Iterator[Finding]:
    """Every event holds the hash of the one before it."""
    before = ""
    for at, event in enumerate(trail.events):
        line = chain.parse(event.body) or {}
        if line.get("prev") != before:
            behind = f"event {trail.events[at - 1].seq}" if at else "the beginning"
            means = f"event {event.seq} does not follow {behind}: something was changed, put in or taken out there"
            yield _found(trail, "unlinked", event.seq, means)
        before = sha256(event.body)


def macs(trail: Trail, key: bytes | None) -> Iterator[Finding]:
    """Every event behind the first keyed one has a MAC, and with the key at hand each MAC is right."""
    keyed, forged = False, []
    for event in trail.events:
        line = chain.parse(event.body) or {}
        found = line.get("mac")
        if found is None and keyed:
            means = f"event {event.seq} has no MAC although those before it have: it was written without the key"
            yield _found(trail, "downgraded", event.seq, means)
        elif found is not None and key is not None and found != chain.mac(line, key):
            forged.append(event.seq)
        keyed = keyed or found is not None
    if forged:
        which = f"event {forged[0]} has" if len(forged) == 1 else f"events {forged[0]} to {forged[-1]} have"
        yield _found(trail, "forged", forged[0], f"{which} a wrong MAC: changed, or written without the key")


def end(trail: Trail, key: bytes | None) -> Iterator[Finding]:
    """The record and the last event agree on where the trail ends."""
    if trail.record is None:
        return
    last = trail.events[-1].seq if trail.events else 0
    stands = trail.record.seq
    if not trail.events:
        yield _found(trail, "cut", 0, f"there is no event at all; the record says there were {stands}")
    elif stands > last:
        yield _found(trail, "cut", last, f"the trail ends at event {last}, the record says at {stands}: the end is cut")
    elif stands < last:
        means = f"the record stands at event {stands} of {last}: an older row was put back, or events were added"
        yield _found(trail, "put_back", stands, means)
    elif trail.record.head != sha256(trail.events[-1].body):
        yield _found(trail, "changed", last, f"event {last}, the last one, is not the one the record names")


def pinned(trail: Trail, key: bytes | None) -> Iterator[Finding]:
    """Whatever any checkpoint has said of the trail still stands in it; of each kind of breach one is told."""
    pins = sorted(trail.pins, key=lambda pin: (pin.head.seq, pin.head.v))
    if not pins:
        return
    by_seq = {event.seq: sha256(event.body) for event in trail.events}
    last = max(by_seq, default=0)
    furthest = pins[-1]
    if trail.record is None and not trail.events:
        means = f"the whole {NAMED[trail.kind]} is gone; {furthest.source} has it with {furthest.head.seq} events"
        yield _found(trail, "gone", 0, means)
        return
    if furthest.head.seq > last:
        has = f"{furthest.source} has {furthest.head.seq}"
        means = f"the trail ends at event {last}; {has}: the end was cut, or an older row put back"
        yield _found(trail, "cut", last, means)
    for pin in pins:
        if pin.head.seq <= last and by_seq.get(pin.head.seq) != pin.head.head:
            means = f"event {pin.head.seq} is not the one of {pin.source}: it or something before it was rewritten"
            yield _found(trail, "rewritten", pin.head.seq, means)
            break
    highest = max(pins, key=lambda pin: pin.head.v)
    if trail.record is not None and trail.record.v < highest.head.v:
        has = f"{highest.source} has {highest.head.v}"
        means = f"the record has version {trail.record.v}; {has}: an older row was put back"
        yield _found(trail, "put_back", trail.record.seq, means)


CHECKS: tuple[Check, ...] = (places, links, macs, end, pinned)
"""All of them, as `check` runs them."""
