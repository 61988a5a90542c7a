"""The people of the machine: each says a word through the real governor, and only what the expectation says counts does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from governor_agents import Governor
from governor_agents.audit import chain
from governor_agents.core.calls import freeze
from governor_agents.core.ports import Events
from governor_agents.core.records import Call, Decision, Run, approval_id
from governor_agents.errors import DecisionRefused, GovernorError
from tests.model.expected import LETS, NEEDED, SEATS, Expected, Handed, address, who
from tests.stores import Time

RUN = "r"
numbers = st.integers(1, 3)
meant = st.sampled_from([0, 0, -1, -1, 1, 2, 3])
"""The first that is asked, the last, or whatever it is."""

ids = st.sampled_from(
    ["alice", "bob", "alice", "bob", "alice", "bob", "dora", "dora", "sam", "sam", "sam", "rita", "carol", "zoe"]
)
names = st.builds(lambda id, other: address(id) if other else id, ids, st.sampled_from([False, False, True]))
kinds = st.sampled_from(["approve", "approve", "approve", "edit", "edit", "reject", "respond"])

OVERS = (
    ("alice", "", "dora"),
    ("alice", "alice", "dora"),
    ("alice", "", "sam"),
    ("alice", "", "bob"),
    (address("alice"), "", address("dora")),
    ("bob", "", "dora"),
    ("bob", address("bob"), "sam"),
    ("carla", "bob", "dora"),
    ("carla", "alice", "sam"),
    ("dora", "", "sam"),
    ("dora", "alice", "alice"),
    ("sam", "bob", "bob"),
    ("bob", "alice", "dora"),
    ("sam", "alice", "dora"),
    ("alice", "", "carol"),
    ("alice", "", address("rita")),
    ("alice", "", "zoe"),
    ("rita", "", "dora"),
    ("carla", "rita", "dora"),
)
"""Who hands whose seat to whom: what may be, depending on what went before, and what never may."""


class Asked(RuleBasedStateMachine):
    """What people do with the calls that they are asked for."""

    office: Governor
    clock: Time

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[int, Expected] = {}
        self.lets = LETS
        self.cancelled = False
        self.told: Counter[str] = Counter()

    def asked(self, n: int) -> bool:
        """True when people may say something of this call."""
        call = self.calls.get(n)
        return call is not None and call.state == "asked" and self.clock() < call.until and not self.cancelled

    def any(self, *states: str) -> bool:
        """True when some call stands so."""
        return any(call.state in states for call in self.calls.values())

    def first(self, *states: str) -> int:
        """The first call that stands so."""
        return next(n for n, call in self.calls.items() if call.state in states)

    def one(self, n: int) -> int:
        """The call that is meant."""
        asked = [at for at, call in self.calls.items() if call.state == "asked"]
        return n if n > 0 else asked[n] if asked else 1

    def says(self, counts: bool, what: str, word: Callable[[], Run]) -> Run | None:
        """Let somebody say it; None when it was refused, as it should."""
        try:
            run = word()
        except (DecisionRefused, GovernorError) as error:
            assert not counts, f"{what} should count: {error}"
            return None
        assert counts, f"{what} should not count"
        return run

    # -- deciding ---------------------------------------------------------------------------------------------------

    def decides(self, n: int, by: str, kind: str, stale: bool) -> None:
        """Somebody decides."""
        n = self.one(n)
        decision = {
            "approve": Decision.approve(),
            "reject": Decision.reject("no"),
            "respond": Decision.respond("42"),
            "edit": Decision.edit({"amount": 1}),
        }[kind]
        id, digest = approval_id(RUN, n), "old" if stale else None
        run = self.says(
            self.counts(n, who(by), kind, stale),
            f"{kind} by {by}",
            lambda: self.office.decide_sync(id, decision, by=by, digest=digest),
        )
        if run is not None:
            self.count(n, who(by), kind, run.call(n))

    def one_more_approves(self, n: int) -> None:
        """The next of those who may, and first those who have a seat by somebody's word."""
        for by in ("dora", "sam", "alice", "bob"):
            if by not in self.calls[n].votes and self.counts(n, by, "approve", False):
                self.decides(n, by, "approve", False)
                return

    some_word = rule(n=meant, by=names, kind=kinds, stale=st.sampled_from([False, False, True]))
    decides_1, decides_2, decides_3 = map(some_word, [decides] * 3)

    def counts(self, n: int, by: str, kind: str, stale: bool) -> bool:
        """True when this decision is taken, or repeats one that was."""
        call = self.calls.get(n)
        if call is not None and call.state != "asked":
            return self.repeats(call, by, kind)
        if call is None or stale or not self.asked(n):
            return False
        can, now = call.can(by, self.clock()), self.clock()
        if by in call.votes:
            return bool(can) or kind == "approve"
        return bool(can if kind == "reject" else call.free(by, now))

    def repeats(self, call: Expected, by: str, kind: str) -> bool:
        """True when a decision on a decided call says what this person said before."""
        if call.state == "gone" or call.won is None:
            return False
        if kind in ("reject", "respond") or call.won[1] in ("reject", "respond"):
            return call.won == (by, kind)
        return by in call.votes and call.votes[by][0] == kind

    def count(self, n: int, by: str, kind: str, written: Call | None) -> None:
        """What a decision that counts makes of its call; which of several seats it takes is the governor's to choose."""
        call, now = self.calls[n], self.clock()
        if call.state != "asked" or (kind == "approve" and by in call.votes):
            return
        if kind in ("reject", "respond"):
            call.state, call.won = {"reject": "rejected", "respond": "answered"}[kind], (by, kind)
            return
        if kind == "edit":
            call.args, call.votes = freeze({"amount": 1}), {}
            call.narrow(self.lets)
            call.remind(now)
        free = call.free(by, now)
        if free:  # an editor may have no seat any more under the policy that the edit met
            assert written is not None
            seat = next(vote.seat or vote.by for vote in written.votes if vote.by == by)
            assert seat in free, f"{by} spoke for {seat}, and may for {free}"
            call.votes[by] = (kind, seat)
        if call.met():
            call.state, call.won = "approved", (by, kind)

    # -- short of deciding ------------------------------------------------------------------------------------------

    def hands_over(self, n: int, over: tuple[str, str, str], moved: bool, then: bool) -> None:
        """Somebody shares a seat, or moves it; who has it now may decide ``then``, and who had it is told no."""
        n, (by, seat, to) = self.one(n), over
        id, call = approval_id(RUN, n), self.calls.get(n)
        mine = (name for name in SEATS if call is not None and call.holder(name) == who(by))
        meant = who(seat) or next(mine, "")
        may = call is not None and call.may_hand(meant, to=who(to), by=who(by), moved=moved)
        run = self.says(
            self.asked(n) and meant != "" and may,
            f"{by} hands the seat {seat or meant} to {to}, moved: {moved}",
            lambda: (
                self.office.reassign_sync(id, seat=seat, to=to, by=by)
                if moved
                else self.office.delegate_sync(id, seat=seat, to=to, by=by)
            ),
        )
        if run is None or call is None:
            return
        had = call.holder(meant)
        known = had == who(to) if moved else who(to) in call.shared(meant)
        if not known:
            call.handed.append(Handed(meant, who(to), who(by), moved))
            self.told["call.reassigned" if moved else "call.delegated"] += 1
        for by in [had, to] if then else [had]:
            if by == to or not self.counts(n, by, "approve", False):
                self.decides(n, by, "approve", False)

    some_hand = rule(n=meant, over=st.sampled_from(OVERS), moved=st.booleans(), then=st.booleans())
    hands_over_1, hands_over_2, hands_over_3 = (
        precondition(lambda self: self.any("asked"))(each) for each in map(some_hand, [hands_over] * 3)
    )

    @precondition(lambda self: self.any("asked"))
    @rule(n=meant, by=names, release=st.booleans())
    def looks(self, n: int, by: str, release: bool) -> None:
        """Somebody says that they look at it, or no longer; it binds nobody."""
        n = self.one(n)
        id, call = approval_id(RUN, n), self.calls.get(n)
        may = call is not None and self.asked(n) and bool(call.can(who(by), self.clock()))
        run = self.says(may, f"{by} looks", lambda: self.office.take_up_sync(id, by=by, release=release))
        if run is not None and call is not None and (call.taken == who(by)) is release:
            call.taken = "" if release else who(by)
            self.told["call.released" if release else "call.taken_up"] += 1

    @precondition(lambda self: self.any("asked"))
    @rule(n=meant, by=names, text=st.sampled_from(["why?", "I see", ""]))
    def writes(self, n: int, by: str, text: str) -> None:
        """Somebody writes beside it."""
        n = self.one(n)
        id, call = approval_id(RUN, n), self.calls.get(n)
        may = call is not None and self.asked(n) and bool(call.can(who(by), self.clock())) and text != ""
        run = self.says(may, f"{by} writes {text!r}", lambda: self.office.comment_sync(id, text, by=by))
        if run is not None and call is not None:
            call.said.append((who(by), text))
            self.told["call.commented"] += 1

    @precondition(lambda self: self.any("asked", "approved", "again"))
    @rule(lets=st.sampled_from([LETS, ()]))
    def policies_change(self, lets: tuple[str, ...]) -> None:
        """From now on the policy lets seats be handed to these."""
        self.lets = lets

    def reminded(self) -> None:
        """Time has done its work: whoever is asked still was reminded, once of all that was missed."""
        for n, call in self.calls.items():
            left = [at for at in call.left if at > self.clock()]
            if self.asked(n) and left != call.left:
                call.left = left
                self.told["call.reminded"] += 1

    # -- what always holds ------------------------------------------------------------------------------------------

    def words_stand_as_expected(self, run: Run) -> None:
        """Whose word it is, for whom, and what is shown beside it, is what the expectation says."""
        for call in run.calls:
            expected = self.calls[call.n]
            if call.votes and call.votes[-1].kind in ("approve", "edit"):
                votes = {vote.by: (vote.kind, vote.seat or vote.by) for vote in call.votes}
                assert votes == expected.votes, f"call {call.n}: {votes}, expected {expected.votes}"
            handed = [(over.seat, over.to, over.by, over.moved) for over in call.handed]
            assert handed == expected.handed, f"call {call.n}: {handed}, expected {expected.handed}"
            assert (call.taken_up.by if call.taken_up else "") == expected.taken
            assert [(comment.by, comment.text) for comment in call.comments] == expected.said
            assert list(call.reminders) == expected.left

    def people_count_once(self, run: Run) -> None:
        """Two seats of those who were asked, by two people; whoever asked for the call is neither."""
        for call in run.calls:
            votes = [vote for vote in call.votes if vote.kind in ("approve", "edit")]
            spoke, seats = {vote.by for vote in votes}, {vote.seat or vote.by for vote in votes}
            assert len(spoke) == len(votes) == len(seats), "somebody counts twice, or for a seat that is filled"
            assert not {"rita", "carol", "carla", "zoe"} & {*spoke, *seats}
            begun = call.state.value in ("executing", "succeeded") and not call.resolved
            assert not begun or len(seats & set(SEATS)) >= NEEDED, "two must approve"

    def every_word_is_told(self, events: Events) -> None:
        """Each word of somebody is one event, and nothing that was refused is any."""
        found = Counter(line["what"] for line in chain.read(events))
        told = ("delegated", "reassigned", "taken_up", "released", "commented", "reminded")
        for name in (f"call.{each}" for each in told):
            assert found[name] == self.told[name], f"{found[name]} events {name}, expected {self.told[name]}"
