"""`runs resolve` and `runs repair`: a worker was killed inside its tool, and an operator says what became of the call."""

import re
from typing import Any

import pytest

from governor_agents import Governor
from governor_agents.handlers.terminal import local_person

ME = local_person()
KILLED = """
from pathlib import Path
from governor_agents import Governor, liveness

governor = Governor.from_file("governor.yaml", lease=0.8)
here = liveness.this_worker()
liveness._me = here.replace(here.split("/")[0], HOST or here.split("/")[0], 1)

@governor.govern(name="refund", retry=RETRY)
def refund(order: str, amount: int, note: str = "") -> str:
    if Path("deadly").exists():
        __import__("os").kill(__import__("os").getpid(), 9)
    with Path("ledger").open("a") as ledger:
        ledger.write(f"{order} {amount} {note}\\n")
    return f"refunded {amount}"
"""

pytestmark = pytest.mark.timeout(300)


def killed(shop: Any, in_flight: float = 60.0, host: str = "", retry: str = "none", **settings: Any) -> str:
    """The id of a run whose worker was killed inside the tool; where it stands when its lease is over."""
    app = KILLED.replace("HOST", repr(host)).replace("RETRY", repr(retry))
    (shop.folder / "app.py").write_text(app)
    (shop.folder / "deadly").touch()
    governor = Governor.from_file("governor.yaml", **settings)

    @governor.govern(name="refund", in_flight=in_flight, retry=retry)
    def refund(order: str, amount: int, note: str = "") -> str:
        raise AssertionError("only a worker runs it")

    id = refund.ask_sync("4711", 120).approval
    governor.close_sync()
    assert shop("inbox", "approve", id).code == 0
    while shop.process("worker", "app:governor", "--once").code != -9:
        pass  # a machine so slow that the lease was over before the tool began
    (shop.folder / "deadly").unlink()
    return id[:-2]


def until(shop: Any, run: str, state: str) -> dict[str, Any]:
    """The run once a worker has brought it into this state."""
    while True:
        document = shop("runs", "show", run, "--json").json
        if document["state"] == state:
            return dict(document)
        shop.work()


def resolve(shop: Any, run: str, *words: str, call: str = "1") -> Any:
    return shop("runs", "resolve", run, call, *words, "--evidence", "the bank's statement")


def test_show_names_the_ways_out_and_an_answer_lets_the_run_go_on(shop) -> None:
    """Refused for now with the moment from which it is possible (exit 1); the other answers count at once."""
    run = killed(shop)
    document = until(shop, run, "blocked")
    attempt = document["calls"][0]["attempts"][0]
    assert attempt["died"] is not None and document["calls"][0]["in_flight"] == 60.0
    shown = shop("runs", "show", run).out
    for flag in ("--happened", "--did-not-happen", "--abandon"):
        assert f"  governor-agents runs resolve {flag} --evidence TEXT {run} 1  # " in shown
    assert "nothing of it can be under way after 20" in shown and "; known to be over since 20" in shown
    told = resolve(shop, run, "--did-not-happen")
    assert told.code == 1 and told.out == "" and told.err.count("\n") == 1
    assert re.search(rf"not yet: a request of {run}\.1 may be under way until 20\d\d-.* UTC", told.err)
    told = resolve(shop, run, "--did-not-happen", "--json")
    assert told.code == 1 and told.json["refused"] == "too_early" and told.json["until"] > attempt["died"]
    told = resolve(shop, run, "--happened", call=f"{run}.1")
    assert told.code == 0 and f"{run}.1 refund is succeeded" in told.out and f"run {run} is completed" in told.out
    shown = shop("runs", "show", run)
    assert f"happened by {ME}, 20" in shown.out and "the bank's statement" in shown.out
    assert shop("runs", "show", run, "--json").json["calls"][0]["resolved"]["by"] == ME
    shop.work()
    assert shop.ledger == []


def test_did_not_happen_asks_anew(shop) -> None:
    """Under a new id; the new approval runs it once."""
    run = killed(shop, in_flight=0.01)
    until(shop, run, "blocked")
    told = resolve(shop, run, "--did-not-happen", "--json")
    while told.code == 1:
        told = resolve(shop, run, "--did-not-happen", "--json")
    assert told.code == 0 and told.json["state"] == "waiting" and told.json["call"]["replaced_by"] == 2
    assert told.json["approvals"] == [f"{run}.2"]
    assert "is failed" in shop("inbox", "approve", f"{run}.1").out  # the old one is used up: this does nothing
    shop.work()
    assert shop.ledger == []
    assert f"in the place of {run}.1, which did not happen" in shop("inbox", "show", f"{run}.2").out
    shop("inbox", "approve", f"{run}.2")
    shop.work()
    assert shop.ledger == ["4711 120 "]
    document = shop("runs", "show", run, "--json").json
    keys = [call["idempotency_key"] for call in document["calls"]]
    assert document["state"] == "completed" and len(set(keys)) == 2 and all(keys)


def test_a_worker_of_another_host_needs_the_operators_word(shop) -> None:
    """It is refused with the two ways on; the word is in the audit trail, and the time runs from it."""
    run = killed(shop, in_flight=0.01, host="elsewhere")
    (shop.folder / "app.py").write_text(KILLED.replace("HOST", "''").replace("RETRY", "'none'"))
    until(shop, run, "blocked")
    assert "not known to be dead: elsewhere/" in shop("runs", "show", run).out
    told = resolve(shop, run, "--did-not-happen")
    assert told.code == 1 and "say it again on the worker's own host, or with --worker-dead" in told.err
    told = resolve(shop, run, "--did-not-happen", "--json")
    assert (told.code, told.json["refused"], told.json["living"]) == (1, "worker_may_live", [])
    assert told.json["workers"][0].startswith("elsewhere/")
    while (told := resolve(shop, run, "--did-not-happen", "--worker-dead")).code == 1:
        assert "may be under way until" in told.err
    assert told.code == 0 and f"asked anew as {run}.2" in told.out
    noted = [event for event in shop("runs", "timeline", run, "--json").json if event["what"] == "call.worker_dead"]
    assert [event["by"] for event in noted] == [ME]


def test_of_two_answers_the_second_is_told_of_the_first(shop) -> None:
    """Exit 2: it will never count."""
    run = killed(shop)
    until(shop, run, "blocked")
    assert resolve(shop, run, "--abandon").code == 0
    told = resolve(shop, run, "--happened")
    assert told.code == 2 and re.search(rf"{run}\.1 is failed since {ME} said abandon at 20", told.err)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run_x", "1", "--evidence", "x"], "give one answer: --happened, --did-not-happen or --abandon"),
        (["run_x", "1", "--happened", "--abandon", "--evidence", "x"], "give one answer"),
        (["run_x", "1", "--happened"], "Missing option '--evidence'"),
        (["run_x", "1", "--happened", "--worker-dead", "--evidence", "x"], "--worker-dead goes with --did-not-happen"),
        (["run_x", "one", "--happened", "--evidence", "x"], "one is no call: give its number, or its id, such as run_x.1"),
        (["run_x", "run_y.1", "--happened", "--evidence", "x"], "run_y.1 is a call of another run than run_x"),
        (["run_x", "1", "--happened", "--evidence", "x"], "no run run_x"),
        (["RUN", "1", "--happened", "--evidence", "x"], "is pending; only a call in doubt can be resolved"),
        (["RUN", "7", "--happened", "--evidence", "x"], "no call RUN.7"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_and_exit_2(shop, words: list[str], told: str) -> None:
    """The thing and the mend are named."""
    run = shop.ask()[:-2]
    said = shop("runs", "resolve", *[word.replace("RUN", run) for word in words])
    assert said.code == 2 and said.out == "" and said.err.count("\n") == 1
    assert told.replace("RUN", run) in said.err


def test_evidence_must_say_something(shop) -> None:
    """A blank is none."""
    run = killed(shop)
    until(shop, run, "blocked")
    said = shop("runs", "resolve", run, "1", "--happened", "--evidence", " ")
    assert said.code == 2 and "say what the answer" in said.err
    assert shop("runs", "show", run, "--json").json["state"] == "blocked"


def test_repair_frees_a_dead_run(shop) -> None:
    """It was given up after its tries; once that is mended, it goes on."""
    run = killed(shop, retry="idempotent", max_attempts=1)
    until(shop, run, "dead")
    shown = shop("runs", "show", run).out
    assert f"  governor-agents runs repair --reason TEXT {run}  # once that is mended: it goes on" in shown
    assert shop("runs", "repair", run, "--reason", " ").code == 2
    told = shop("runs", "repair", run, "--reason", "more memory")
    assert told.code == 0 and f"run {run} is ready" in told.out
    assert until(shop, run, "completed")["calls"][0]["n"] == 1
    assert shop.ledger == ["4711 120 "]
    told = shop("runs", "repair", run, "--reason", "again")
    assert told.code == 2 and "there is nothing that a repair would free" in told.err
