"""Keys and members in Redis: any text is told apart from any other, and bytes sort as what they stand for."""

import math

from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from governor_agents.core.ports import INDEX_FIELDS
from governor_agents.stores.redis.keys import END, FIELDS, LAST, Keys, moment, plain, tenant_and_id, text, time

TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.text("\0\1\xff:{}ab", max_size=6)
TIMES = st.floats(allow_nan=False)
NAMES = st.tuples(st.sampled_from(["run", "thread"]), TEXTS.filter(bool), TEXTS.filter(bool))


@given(TEXTS, TEXTS)
def test_text_sorts_by_code_points(one: str, other: str) -> None:
    """Also where one is the beginning of the other, or holds what ends a text."""
    assert (text(one) + END < text(other) + END) is (one < other)
    assert plain(text(one)) == one


@given(TEXTS, TEXTS)
def test_no_text_holds_its_end(one: str, rest: str) -> None:
    """So what follows cannot be taken for a part of it."""
    assert END not in text(one)
    assert tenant_and_id(text(one) + END + rest.encode()) == (one, rest)
    assert text(one) + END + rest.encode() < text(one) + END + LAST


@given(TIMES, TIMES)
def test_moments_sort_as_times(one: float, other: float) -> None:
    """Negative ones and infinities too; the two zeros are one."""
    assert (moment(one) < moment(other)) is (one < other)
    assert time(moment(one)) == one


@given(TIMES.filter(math.isfinite))
def test_a_moment_has_a_next(when: float) -> None:
    """What is due now is below the moment after now."""
    assert moment(when) < moment(math.nextafter(when, math.inf))


@given(NAMES, NAMES)
def test_no_two_records_share_a_key(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    """Kind, tenant and id are three names, wherever one ends and the other begins."""
    keys = Keys("ga")
    of = [{keys.record(*name), keys.events(*name), keys.blobs(*name)} for name in (one, other)]
    assert len(of[0]) == 3
    assert one == other or not of[0] & of[1]
    everyones = {keys.store, keys.clock(0), keys.ids(0, "run"), keys.due(0, "run"), keys.by(0, "run", "state")}
    assert len(everyones) == 5 and not everyones & of[0]


@given(NAMES, st.integers(1, 256))
def test_all_keys_of_a_record_lie_in_one_slot(name: tuple[str, str, str], partitions: int) -> None:
    """A cluster runs a script only where all its keys are together."""
    keys = Keys("ga", partitions)
    slots = {key_slot(key) for key in keys.touched(*name)}
    assert slots == {key_slot(keys.clock(keys.partition(*name)))}
    assert all(key.startswith(b"{ga:") for key in keys.touched(*name))


def test_records_are_spread_evenly() -> None:
    """No partition is empty, none holds twice its share."""
    keys, count = Keys("ga", 16), [0] * 16
    for number in range(16_000):
        count[keys.partition("run", "t", f"run_{number}")] += 1
    assert min(count) > 500 and max(count) < 2000


def test_where_a_record_lies_never_changes() -> None:
    """Another version that put it elsewhere would not find it again."""
    assert Keys("ga", 16).touched("run", "te:nant", "a{b}")[:5] == [
        b"{ga:4}:record:run:7:te:nant:a{b}",
        b"{ga:4}:events:run:7:te:nant:a{b}",
        b"{ga:4}:blobs:run:7:te:nant:a{b}",
        b"{ga:4}:clock",
        b"{ga:4}:ids:run",
    ]
    assert tuple(sorted(INDEX_FIELDS)) == FIELDS
