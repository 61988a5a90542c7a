"""What the machine expects of one call, in a few lines of plain Python: who may speak for whom now, and what counts.

Alice, Bob and Rita have a seat each, two of which must approve. Rita asked for the call, so nothing comes of hers. Sam
stands in for Alice and for Bob while they are away; Dora is somebody to whom a seat may be handed; Carla hands round what
is not hers; Carol is known and asked for nothing, and Zoe is no longer known.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from governor_agents.core.identity import Away, Person
from governor_agents.core.verdicts import Stage, Verdict
from governor_agents.directory import People

DEADLINE = 1000.0
REQUESTER, SEATS, NEEDED = "rita", ("alice", "bob", "rita"), 2
LETS = ("dora", "sam", "bob", "rita")
"""To whom the policy lets a seat be handed, while it lets it be handed to anybody."""

REMINDERS = (40.0, 400.0)
SUBSTITUTE, PERIOD = "sam", 150.0
AWAY = {"alice": (0.0, 75.0), "bob": (60.0, 130.0)}
"""From when to when of each period somebody is away."""

ASK = Verdict(
    "require_approval",
    "p",
    "1",
    stages=(Stage(("ops",), SEATS, quorum=NEEDED),),
    deadline=DEADLINE,
    reminders=REMINDERS,
    delegates=LETS,
)


def asks(lets: tuple[str, ...]) -> Verdict:
    """What the policy says while it lets a seat be handed to these."""
    return replace(ASK, delegates=lets)


def address(id: str) -> str:
    """The other name of somebody."""
    return f"{id}@example.com"


def who(name: str) -> str:
    """The person who is meant by a name."""
    return name.partition("@")[0]


def directory(since: float, periods: int = 400) -> People:
    """Who they are, and when they are away."""
    first = since - since % PERIOD

    def times(id: str) -> tuple[Away, ...]:
        begins, ends = AWAY.get(id, (0.0, 0.0))
        starts = (first + PERIOD * at for at in range(periods))
        return tuple(Away(at + begins, at + ends, SUBSTITUTE) for at in starts if ends)

    known = ("alice", "bob", "rita", "sam", "dora", "carol", "carla")
    return People([Person(id, addresses=(address(id),), away=times(id)) for id in known], coordinators=["carla"])


def away(id: str, now: float) -> bool:
    """True when somebody stands in for this person."""
    begins, ends = AWAY.get(id, (0.0, 0.0))
    return begins <= now % PERIOD < ends


class Handed(NamedTuple):
    """A seat that went on: shared with somebody, or moved to somebody."""

    seat: str
    to: str
    by: str
    moved: bool


@dataclass
class Expected:
    """What must be true of one call.

    ``votes`` are who approves, with what word and for whose seat; ``died`` is since when an attempt, by its number, is
    known to be over.
    """

    tool: str
    args: bytes
    until: float
    state: str = "asked"
    votes: dict[str, tuple[str, str]] = field(default_factory=dict)
    attempts: list[str] = field(default_factory=list)
    died: dict[int, float] = field(default_factory=dict)
    lapsed: float = 0.0
    won: tuple[str, str] | None = None
    replaces: int = 0
    lets: tuple[str, ...] = LETS
    handed: list[Handed] = field(default_factory=list)
    taken: str = ""
    said: list[tuple[str, str]] = field(default_factory=list)
    left: list[float] = field(default_factory=list)

    def lapse(self, now: float) -> None:
        """An attempt ended without a result."""
        self.state, self.lapsed = ("again" if self.tool == "send" else "doubt"), now

    # -- seats ------------------------------------------------------------------------------------------------------

    def holder(self, seat: str) -> str:
        """Whose seat it is by now."""
        return next((over.to for over in reversed(self.handed) if over.moved and over.seat == seat), seat)

    def shared(self, seat: str) -> list[str]:
        """Who else may speak for it, since it was moved last."""
        found: list[str] = []
        for over in self.handed:
            if over.seat == seat:
                found = [] if over.moved else [*found, over.to]
        return found

    def filled(self) -> set[str]:
        """The seats for which somebody has approved."""
        return {seat for _, seat in self.votes.values()}

    def met(self) -> bool:
        """True when enough seats are filled."""
        return len(self.filled() & set(SEATS)) >= NEEDED

    def can(self, by: str, now: float) -> set[str]:
        """The seats that somebody may speak for."""
        return {seat for seat in SEATS if REQUESTER not in (by, seat) and self._speaks(by, seat, now)}

    def _speaks(self, by: str, seat: str, now: float) -> bool:
        holder = self.holder(seat)
        return by == holder or by in self.shared(seat) or (by == SUBSTITUTE and away(holder, now))

    def free(self, by: str, now: float) -> set[str]:
        """Those of them that nobody has filled."""
        return self.can(by, now) - self.filled()

    def may_hand(self, seat: str, *, to: str, by: str, moved: bool) -> bool:
        """True when somebody may hand this seat to somebody."""
        mine = by == self.holder(seat) or (by == "carla" and moved)
        others = {self.holder(other) for other in SEATS if other != seat}
        allowed = to == seat or (to in self.lets and to != by)
        free = seat not in self.filled() and to not in self.votes
        return mine and allowed and to not in others and free and REQUESTER not in (by, seat, to)

    def void(self, lets: tuple[str, ...]) -> set[str]:
        """Seats that went to somebody other than the policy lets them go to."""
        return {over.seat for over in self.handed if over.to not in (*lets, over.seat)}

    def counted(self, lets: tuple[str, ...]) -> dict[str, tuple[str, str]]:
        """The votes as a policy takes them: whoever spoke for a seat that may not go on spoke for nobody else."""
        void = self.void(lets)
        return {by: (kind, by if seat in void else seat) for by, (kind, seat) in self.votes.items()}

    # -- the policies -----------------------------------------------------------------------------------------------

    def narrow(self, lets: tuple[str, ...]) -> None:
        """From now on, seats may be handed to no others than these."""
        void = self.void(lets)
        self.lets = tuple(name for name in self.lets if name in lets)
        self.handed = [over for over in self.handed if over.seat not in void]

    def remind(self, now: float) -> None:
        """The times to remind people at, when they are asked now, beside those that there are."""
        times = {*self.left, *(now + seconds for seconds in REMINDERS)}
        self.left = sorted(at for at in times if at < self.until)

    def ask_again(self, lets: tuple[str, ...], now: float) -> None:
        """The approvals are not those that the policy wants now: an attempt that is in doubt stays so."""
        if self.state == "again":
            self.state = "doubt"
            return
        self.votes = self.counted(lets)
        self.narrow(lets)
        self.state, self.until, self.won, self.taken, self.left = "asked", now + DEADLINE, None, "", []
        self.remind(now)
