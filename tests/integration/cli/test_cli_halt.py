"""`halt`: stop, list, lift; a stopped run says which command lets it go on."""

import pytest

from governor_agents.handlers.terminal import local_person

ME = local_person()


def test_halt_stops_a_worker_and_lifting_lets_it_go_on(shop) -> None:
    """The whole way on the command line: approved, halted, explained, lifted, run once."""
    id = shop.ask()
    run = id[:-2]
    shop("inbox", "approve", id)
    told = shop("halt", "tool:refund", "--reason", "incident 12")
    assert told.code == 0 and told.out.startswith("tool:refund is halted since ") and "incident 12" in told.out
    assert "\ngovernor-agents halt tool:refund --lift  # lets it go again\n" in told.out
    shop.work()
    assert shop.ledger == []
    shown = shop("runs", "show", run).out
    assert shown.startswith(f"run {run} is blocked: stands still: tool:refund is halted")
    assert "\n  governor-agents halt tool:refund --lift\n" in shown
    told = shop("halt", "tool:refund", "--lift")
    assert told.code == 0 and told.out == "tool:refund is no longer halted; 1 run goes on\n"
    shop.work()
    assert len(shop.ledger) == 1
    assert shop("halt", "tool:refund", "--lift").out == "tool:refund was not halted; 0 runs go on\n"


def test_halt_alone_lists(shop) -> None:
    """With scope, time, person and reason; nothing is a note on stderr and an empty list."""
    shop.ask()
    none = shop("halt")
    assert (none.code, none.out, none.err) == (0, "", "nothing is halted\n")
    assert shop("halt", "--json").json == []
    made = shop("halt", "everything", "--reason", "a\u202eb", "--json").json
    assert (made["scope"], made["by"], made["reason"]) == ("everything", ME, "a\u202eb")
    assert shop("halt", "--json").json == [made]
    table = shop("halt").out
    assert table.startswith("SCOPE") and "everything" in table and ME in table and "a\\u{202E}b" in table
    lifted = shop("halt", "everything", "--lift", "--json").json
    assert lifted == {"scope": "everything", "was_halted": True, "runs_freed": 0}
    assert shop("halt", "--json").json == []


@pytest.mark.parametrize(
    "words", [("halt", "refund"), ("halt", "tool:"), ("halt", "--lift"), ("halt", "--reason", "x")]
)
def test_bad_scopes_are_one_line(shop, words) -> None:
    """Named, with what a scope is; exit code 2."""
    shop.ask()
    told = shop(*words)
    assert told.code == 2 and told.out == "" and told.err.count("\n") == 1
    assert "tool:NAME, agent:NAME, tenant or everything" in told.err


def test_halt_without_a_store_says_so(shop) -> None:
    """A halt that no process would read is no halt."""
    told = shop("halt", "everything")
    assert told.code == 2 and "there is no store at" in told.err
