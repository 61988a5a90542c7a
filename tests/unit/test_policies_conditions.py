"""CEL conditions: what they see, and that doubt never reads as true or false."""

import json
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from governor_agents.core.calls import Tool, ToolCall, freeze
from governor_agents.errors import ConfigError
from governor_agents.policies.conditions import MAX_ARGS, MAX_VALUES, Condition, ConditionFailed, Facts
from governor_agents.policies.expressions import tokens


def holds(expression: str, arguments: object = None, **rest: str) -> bool:
    args = json.dumps(arguments or {}, separators=(",", ":")).encode()
    return Condition(expression).holds(Facts(ToolCall("refund", args, "1", **rest), Tool("refund", effect="money")))


@pytest.mark.parametrize(
    ("amount", "small"),
    [(50, True), (50.0, True), (12.5, True), (50.01, False), (51, False), (2**63 - 1, False), (-1, True)],
)
def test_integers_and_floats_compare(amount: float, small: bool) -> None:
    assert holds("call.args.amount <= 50", {"amount": amount}) is small
    assert holds("call.args.amount <= 50.0", {"amount": amount}) is small


@pytest.mark.parametrize("amount", [2**63, -(2**63), 2**64, 10**400, "12", None, True, [1], {"a": 1}])
def test_what_cannot_be_compared_fails(amount: object) -> None:
    with pytest.raises(ConditionFailed):
        holds("call.args.amount <= 50", {"amount": amount})


@pytest.mark.parametrize(
    "expression",
    [
        "call.args.amount <= 50", "call.args.a.b == 1", "call.args.amount", "call", "1", "'true'", "null",
        "call.args.amount == 1 || false", "1 / 0 == 1", "call.args['x'] == 1", "[1][5] == 1", "int('x') == 1",
        "'a'.matches('(') == false", "has(call.args.a.b)", "-call.args.low > 0",
    ],
)  # fmt: skip
def test_errors_and_results_that_are_no_booleans_fail(expression: str) -> None:
    with pytest.raises(ConditionFailed) as caught:
        holds(expression, {"low": -(2**63)} if "low" in expression else {})
    assert "\n" not in str(caught.value)


def test_a_condition_sees_the_call_and_the_tool() -> None:
    seen = {"agent": "support", "requester": "Bob@Example.com", "conversation": "c1", "tenant": "acme"}
    assert holds("call.tool == 'refund' && call.agent == 'support' && call.conversation == 'c1'", **seen)
    assert holds("call.tenant == 'acme' && call.requester == 'bob@example.com'", **seen)
    assert holds("!tool.read_only && tool.effect == 'money' && tool.retry == 'none'")
    assert holds("call['tenant'] == 'acme' && tool['effect'] == 'money'", **seen)


def test_null_is_there_but_missing_is_not() -> None:
    assert holds("has(call.args.x) && call.args.x == null", {"x": None})
    assert not holds("has(call.args.x)")
    assert not holds("has(call.args.x) && call.args.x <= 50")


def test_a_condition_that_does_not_read_the_arguments_does_not_mind_them() -> None:
    assert holds("call.tenant == 'default'", {"n": 2**80})


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("cal.args.x == 1", "did you mean 'call'"),
        ("call.arg.x == 1", "did you mean 'call.args'"),
        ("call\n.arg.x == 1", "did you mean 'call.args'"),
        ("has(call.arg)", "did you mean 'call.args'"),
        ("tool.readonly", "did you mean 'tool.read_only'"),
        ("call.args.x.startswith('a')", "did you mean 'startsWith'"),
        ("call.args.l.exist(x, x > 1)", "did you mean 'exists'"),
        ("[1].all(call, true)", "another name"),
        ("call.args.x = 1", "column"),
        ("call.args.x == 1 and true", "write && for and"),
        ("call.args.x ==", "column 15"),
        ("true &&\n&& true", "line 2, column 1"),
        ("", "not a valid CEL expression"),
        ("x" * 2001, "2000 characters"),
        ("(" * 900 + "true" + ")" * 900, "not a valid CEL expression"),
        ("call.args.x == 9223372036854775808", "invalid int"),
        (True, "written as text"),
    ],
)
def test_what_cannot_work_is_refused_when_compiled(expression: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Condition(expression)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "expression",
    [
        "call.args.l.all(item, item.cal > 0)", "'cal.args' == call.tool", "call.args.call.foo == 1", "type(call.args) == map",
        "r'\\' == call.tool // cal", "call.args.size() > 0", "[1].exists_one(x, x == 1)", "'''cal'''  == \"cal\"",
    ],
)  # fmt: skip
def test_names_in_strings_arguments_and_loops_are_no_unknown_names(expression: str) -> None:
    Condition(expression)


def test_arguments_of_any_size_are_refused_or_looked_at_in_bounded_time() -> None:
    """Loops whose time would grow with the square of the arguments, found by measuring the engine."""
    many = {"l": list(range(4000)), "s": "a" * 500_000}
    for expression in (
        "call.args.l.all(x, x in call.args.l)",
        "call.args.l.all(x, !call.args.s.contains('b'))",
        "call.args.l.map(x, x).size() > 0",
        "call.args.l.all(x, call.args.l.all(y, x + y >= 0))",
        "call.args.l.map(x, call.args.s + call.args.s).size() > 0",
    ):
        begun = time.perf_counter()
        with pytest.raises(ConditionFailed, match="too large"):
            holds(expression, many)
        assert time.perf_counter() - begun < 2


def test_loops_over_ordinary_arguments_work() -> None:
    assert holds("call.args.to.all(x, x.endsWith('@example.com'))", {"to": [f"p{i}@example.com" for i in range(500)]})
    assert holds("call.args.to.exists(x, call.args.bad.exists(y, x == y))", {"to": ["a", "b"], "bad": ["c", "b"]})


@pytest.mark.parametrize("arguments", [{"s": "a" * MAX_ARGS}, {"l": [0] * MAX_VALUES}])
def test_arguments_that_are_too_large_fail(arguments: object) -> None:
    with pytest.raises(ConditionFailed, match="arguments"):
        holds("call.args.x == 1", arguments)


@pytest.mark.parametrize(
    "args",
    [b"[1]", b"{", b'{"a":1,"a":1}', b'{"x":NaN}', b'{"x":1e999}', b'{"x":' + b"[" * 100 + b"]" * 100 + b"}", b"\xff"],
)
def test_bytes_that_are_no_arguments_fail(args: bytes) -> None:
    with pytest.raises(ConditionFailed):
        Condition("call.args.x == 1").holds(Facts(ToolCall("t", args, "1"), Tool("t")))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300)
@given(
    value=json_values,
    expression=st.sampled_from(["call.args.x <= 50", "call.args.x == 1 || call.args.x > 'a'", "call.args.x"]),
)
def test_any_arguments_give_a_boolean_or_a_failure(value: object, expression: str) -> None:
    facts = Facts(ToolCall("t", freeze({"x": value}), "1"), Tool("t"))
    try:
        result = Condition(expression).holds(facts)
    except ConditionFailed:
        return
    assert isinstance(result, bool)
    if expression == "call.args.x <= 50":
        assert isinstance(value, (int, float)) and not isinstance(value, bool)
        assert result is (value <= 50)


@settings(max_examples=300)
@given(st.text(alphabet="call.args()[]{}'\"\\ru+-!&|<>=?:,1x \n/", max_size=60))
def test_any_text_compiles_or_is_refused(text: str) -> None:
    try:
        Condition(text)
    except ConfigError as error:
        assert "\n" not in str(error)
    "".join(tokens(text))


def test_one_condition_serves_many_threads() -> None:
    condition, wrong = Condition("call.args.n > 10"), []

    def work(n: int) -> None:
        for _ in range(200):
            if condition.holds(Facts(ToolCall.of("t", {"n": n}), Tool("t"))) is not (n > 10):
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8, 14)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


LIGHT = """
import sys
from governor_agents.policies import PolicySet
from governor_agents.core.calls import ToolCall
rule = "version: 1\\nrules: [{name: a, tool: t, when: call.args.n > 1, then: allow}]"
assert PolicySet.from_text(rule).evaluate(ToolCall.of("t", {"n": 2})).outcome == "allow"
assert "prompt_toolkit" not in sys.modules and "cel.cli" not in sys.modules
import cel
assert cel.compile("1 == 1").execute() is True
assert PolicySet.from_text(rule).evaluate(ToolCall.of("t", {"n": 2})).outcome == "allow"
"""


def test_the_engine_is_loaded_without_its_terminal_interface() -> None:
    """Half a second of imports less, and whoever imports the engine's package afterwards still can."""
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
