"""The canonical form, and the digest that a decision is bound to."""

from __future__ import annotations

from dataclasses import replace

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from governor_agents.core.binding import envelope
from governor_agents.core.calls import freeze, freeze_text, thaw
from governor_agents.core.records import Call, CallState, Run, RunState
from governor_agents.core.verdicts import Stage
from governor_agents.errors import ArgumentsError

words = st.text(st.characters(exclude_categories=["Cs"]))
RUN = Run("t", "run_1", "agent", "x", "requester", RunState.ACTIVE, 0.0)
CALL = Call(1, "c1", 0, "pay", b'{"amount":5}', CallState.PENDING, 0.0, stages=(Stage(("ops",), ("alice",)),))

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner) | st.dictionaries(words, inner),
    max_leaves=20,
)


@given(words, words, words, words, st.integers(0, 2**53 - 1))
def test_envelope_is_rfc_8785(tool: str, tenant: str, call_id: str, nonce: str, expires: int) -> None:
    """For the envelope, an object of strings and integers, our canonical form is JCS."""
    run = replace(RUN, tenant=tenant)
    call = replace(CALL, tool=tool, call_id=call_id, nonce=nonce, expires=expires / 1000)
    made = envelope(run, call)
    assert freeze(made) == rfc8785.dumps(made)


def test_jcs_would_confuse_what_we_keep_apart() -> None:
    """The control: over arguments the two differ, which is why arguments are hashed as bytes of ours."""
    assert freeze([1]) != freeze([1.0])
    assert rfc8785.dumps([1]) == rfc8785.dumps([1.0])


@given(json_values)
def test_frozen_bytes_are_a_fixed_point(value: object) -> None:
    """What is parsed from the bytes freezes to the same bytes again."""
    frozen = freeze(value)
    assert freeze(thaw(frozen)) == frozen == freeze_text(frozen)


@pytest.mark.parametrize("text", ['{"a":1,"a":2}', "NaN", "[Infinity]", '"\\ud800"', "{", "[" * 100 + "]" * 100])
def test_text_that_has_no_single_form_is_refused(text: str) -> None:
    """Duplicate keys, numbers that are none, lone surrogates, broken and very deep texts."""
    with pytest.raises(ArgumentsError):
        freeze_text(text)
