"""What becomes of a decision in every situation: the data behind ``docs/decisions.md`` and ``test_decisions.py``.

``python -m tests.faults.decision_table`` writes the document anew.
"""

from __future__ import annotations

from pathlib import Path

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "decisions.md"

KINDS = ("approve", "reject", "edit", "respond")

SAME = "same answer"
"""The decision stands already: nothing is written, and the answer is that of the first time."""

COUNTS = {"approve": "counts: approved", "reject": "counts: rejected", "edit": "counts: approved"} | {
    "respond": "counts: answered"
}


def _all(verdict: str) -> dict[str, str]:
    return dict.fromkeys(KINDS, verdict)


SITUATIONS: dict[str, tuple[str, dict[str, str]]] = {
    "pending": ("the call waits, and this person is asked", COUNTS),
    "same again": ("this person decided just this before", _all(SAME)),
    "same by another": ("somebody else decided the same before", _all("already_decided")),
    "opposite": ("somebody else decided otherwise before", _all("already_decided")),
    "other bytes": (
        "this person decided before, with other words: another answer, other arguments; the opposite for the rest",
        _all("already_decided"),
    ),
    "stale digest": ("the call changed after it was shown to this person", _all("stale_decision")),
    "after expiry": ("the deadline has passed", _all("deadline_passed")),
    "after cancel": ("the run was cancelled", _all("already_decided")),
    "superseded": ("a new message took the run's place", _all("already_decided")),
    "while executing": ("somebody approved it, and the tool runs now", _all("already_decided")),
    "in doubt": ("somebody approved it, and nobody knows whether it happened", _all("already_decided")),
    "after done": ("somebody approved it, and it has run", _all("already_decided")),
    "not asked": ("this person is not among those who are asked", _all("not_an_approver")),
    "asked for it": ("this person is the one for whom the call is made", _all("not_an_approver")),
    "no reason": ("the policy wants a reason and none is given", _all("reason_required")),
    "substitute": ("this person is the substitute of somebody who is asked, and away", COUNTS),
    "back again": ("this person is the substitute of somebody who is asked, and not away", _all("not_an_approver")),
    "for whoever asked": ("this person is the substitute of the one who asked, and is away", _all("not_an_approver")),
    "under another name": ("this person is the one who asked, under another address", _all("not_an_approver")),
    "delegate": ("somebody who is asked handed this request to this person as well", COUNTS),
    "moved away": ("this person's seat was given to somebody else for this request", _all("not_an_approver")),
    "seat filled": (
        "two must decide, and a substitute has approved in this person's place",
        _all("not_an_approver") | {"reject": COUNTS["reject"]},
    ),
    "service": ("this is a service that a group of approvers holds", _all("not_an_approver")),
    "left": ("the directory does not know this person any more", _all("not_an_approver")),
    "nobody known": ("the directory cannot be read", _all("directory_unreadable")),
    "taken up": ("somebody else said that they look at it", COUNTS),
    "unknown id": ("there is no such approval", _all("not_found")),
    "other tenant": ("the approval belongs to another tenant", _all("not_found")),
}
"""Situation: in words, and the verdict for each kind of decision."""

NAMES_WINNER = ("same by another", "opposite", "other bytes", "while executing", "in doubt", "after done")
"""Situations in which the answer says who decided, what and when."""

HEAD = """\
# Decisions

What becomes of a decision, by what happened before. The first decision wins; whoever comes later is told who decided, what
and when. A decision that does not count changes nothing, but that a deadline which has passed is written down: what one
person was told holds for all, whatever a clock says later. `counts` is followed by the call's state from then on; the other
words are the codes of the errors that `Governor.decide` raises; `same answer` raises nothing and writes nothing. An edit is
asked of the policies again and may be refused by them (`edit_refused`); where it does not meet all stages, the call goes on
waiting under its new bytes.

This page is written by `python -m tests.faults.decision_table` from the table that `tests/faults/test_decisions.py` tries
cell by cell, on every store.
"""


def document() -> str:
    """The text of the page."""
    rows = [["", "", *KINDS], ["---"] * (2 + len(KINDS))]
    for name, (words, verdicts) in SITUATIONS.items():
        rows.append([f"**{name}**", words, *(verdicts[kind] for kind in KINDS)])
    return HEAD + "\n" + "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(document(), "utf-8")
