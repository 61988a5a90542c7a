"""The load on people: who was asked often enough of late is left alone for a while, and what they are asked is held.

What is held is not decided by that, and not hidden: it stands in the inbox, flagged, and whoever may decide it can. It
is asked when the next ten minutes begin.
"""

from __future__ import annotations

from governor_agents.core.calls import sha256
from governor_agents.core.records import Approval, CallState, Notice
from governor_agents.core.telling import Failure
from governor_agents.governor import Governor

WINDOW = 600.0
"""Seconds over which new requests are counted."""


async def held(governor: Governor, approval: Approval, notice: Notice) -> Failure | None:
    """Why a request is held, None when people are asked now. Counts it for each of them, once for all channels.

    An identical call that joins a card asks nobody anew.
    """
    most = governor.policies.keeping.asks
    asks = notice.what == "asked" and approval.call.state is CallState.PENDING
    if most is None or not asks or (notice.tries and not notice.held):
        return None
    if await governor.desk.joins(approval, notice.channel):
        return None
    op = sha256(f"{approval.id} {approval.call.stage} {approval.call.digest}".encode())[:32]
    waits = {person: await governor.desk.count(f"asks:{person}", most, WINDOW, op) for person in approval.people}
    if not any(waits.values()):
        return None
    busy = ", ".join(person for person, wait in waits.items() if wait)
    return Failure(f"{busy}: asked {most} times within ten minutes", max(waits.values()), held=True)
