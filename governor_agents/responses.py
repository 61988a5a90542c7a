"""What models answered under a claim: held until a tool is about to start, and given back after a crash.

A framework that keeps nothing inside a turn would ask the model again after a crash, and be given new call ids, under
which an allowed write would run twice. So each response is held here as it comes, written with the first intent that
follows from it (or alone, before a tool that has no journal), and given back when the stretch is driven again.

A response has its place in a *chain*: the call ids of the tools around the loop that asked. Loops in different chains
may run at the same moment. What unjournalled tools gave a model to read is kept with the response that it led to, so
that the same request can be made again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from governor_agents.core.calls import thaw
from governor_agents.core.ports import Blob
from governor_agents.core.records import Response
from governor_agents.errors import ArgumentsError, ReplayDiverges, SnapshotError
from governor_agents.runs import blob

Chain = tuple[str, ...]

PARTS = ("the instructions", "the input", "the tools", "the output type", "the conversation")
"""What a request is digested by, in the order in which its digests stand."""


@dataclass(frozen=True, slots=True)
class Read:
    """What an unjournalled tool gave: JSON text, or, when it failed, the words for the model."""

    text: str
    ok: bool = True


class Responses:
    """The responses of one claim. Held by the framework's loop, written by the governor loop."""

    def __init__(self, kept: Sequence[Response] = ()) -> None:
        self._kept = sorted(kept, key=lambda response: response.ordinal)
        self._contents: dict[str, str] = {}
        self._reads: dict[str, list[Read]] = {}
        self._held: dict[tuple[Chain, int], tuple[Response, Blob]] = {}
        self._heard: dict[Chain, dict[str, Read]] = {}
        self._next: dict[Chain, int] = {}
        self._entered: set[Chain] = {()}
        self._done: set[Chain] = set()
        self.turn = asyncio.Lock()
        """Held around a write that carries responses, so that the tools beside it neither start nor write them too."""

    @property
    def kept(self) -> tuple[Response, ...]:
        """What is durable and was not given back yet."""
        return tuple(self._kept)

    @property
    def waiting(self) -> bool:
        """True while something is held that is not durable."""
        return bool(self._held)

    def load(self, contents: Mapping[str, bytes]) -> None:
        """Take the contents of what is kept, by blob. Raises `SnapshotError`."""
        for id, data in contents.items():
            try:
                found = thaw(data)
                reads = {call_id: Read(text, ok) for call_id, (ok, text) in found["reads"].items()}
                if not all(
                    isinstance(text, str) for text in (found["response"], *(read.text for read in reads.values()))
                ):
                    raise TypeError("a text is expected")
                self._contents[id] = found["response"]
                for call_id, read in reads.items():
                    self._reads.setdefault(call_id, []).append(read)
            except (ArgumentsError, KeyError, TypeError, ValueError, AttributeError) as error:
                raise SnapshotError(f"a recorded response of a model is not readable: {error}") from None

    # -- giving back ------------------------------------------------------------------------------------------------

    def enter(self, chain: Chain) -> None:
        """A tool begins, and inside it a loop may: what that one was answered is asked for again."""
        self._entered.add(chain)

    def given(self, chain: Chain, request: tuple[str, ...]) -> str | None:
        """The recorded answer to this request, None when the model is to be asked.

        Loops that run side by side in one chain are told apart by what they ask. Raises `ReplayDiverges` when the chain
        has recorded answers left, but none to this.
        """
        here = [response for response in self._kept if response.chain == chain]
        if not here:
            return None
        found = next((response for response in here if response.request == request), None)
        if found is None:
            raise ReplayDiverges(_differs(here[0], request))
        self._kept.remove(found)
        self._next[chain] = max(self._next.get(chain, 0), found.ordinal + 1)
        return self._contents[found.blob]

    def read(self, call_id: str) -> Read | None:
        """What an unjournalled call gave before the crash, when a recorded response followed from it; each once.

        An id that comes again later is another call, and reads anew.
        """
        reads = self._reads.get(call_id)
        return reads.pop(0) if reads else None

    def never_asked(self) -> tuple[Response, ...]:
        """What was recorded in loops that ran again, and was not asked for: they went another way."""
        return tuple(response for response in self._kept if response.chain in self._entered)

    # -- recording --------------------------------------------------------------------------------------------------

    def heard(self, chain: Chain, call_id: str, read: Read) -> None:
        """An unjournalled tool gave this; the next response of the chain follows from it."""
        self._heard.setdefault(chain, {})[call_id] = read

    def hold(self, chain: Chain, request: tuple[str, ...], content: str, calls: tuple[str, ...]) -> None:
        """A model answered. Not durable yet."""
        reads = {call_id: (read.ok, read.text) for call_id, read in self._heard.pop(chain, {}).items()}
        made = blob(json.dumps({"reads": reads, "response": content}, ensure_ascii=True).encode())
        ordinal = self._next.get(chain, 0)
        self._next[chain] = ordinal + 1
        self._held[chain, ordinal] = (Response(chain, ordinal, request, made.id, calls), made)

    def leave(self, chain: Chain) -> None:
        """The tool is done: what its loop was answered has led to what it gave."""
        self._done.add(chain)

    def leading_to(self, chain: Chain) -> tuple[tuple[Response, ...], tuple[Blob, ...]]:
        """What is held that led to a call in this chain, and its contents.

        That is what was answered in the chain and in those around it, and in the tools inside them that are done; not
        in a tool that still runs beside it.
        """
        found = [(kept, made) for kept, made in list(self._held.values()) if self._leads(kept.chain, chain)]
        return tuple(kept for kept, _ in found), tuple(made for _, made in found)

    def _leads(self, answered: Chain, chain: Chain) -> bool:
        shared = 0
        while shared < min(len(answered), len(chain)) and answered[shared] == chain[shared]:
            shared += 1
        return shared == len(answered) or answered[: shared + 1] in self._done

    def stand(self, responses: Sequence[Response]) -> None:
        """These are durable now."""
        for response in responses:
            self._held.pop((response.chain, response.ordinal), None)


def _differs(kept: Response, request: tuple[str, ...]) -> str:
    """One line: which response, and what of its request is not as it was."""
    parts = [part for part, old, new in zip(PARTS, kept.request, request, strict=False) if old != new]
    where = f" inside {' > '.join(kept.chain)}" if kept.chain else ""
    was = " and ".join(parts) or "the request"
    return (
        f"what a model answered was recorded (response {kept.ordinal + 1}{where}), but {was} that it answered to "
        f"changed since; going on could run a call twice. Put the agent back as it was and repair the run, or cancel it"
    )
