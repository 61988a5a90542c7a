"""Models whose answers are recorded before their tools run, and given back after a crash.

A recorded model stands in front of the user's own. Outside of a stretch under a claim it only passes on. It leaves
alone what the SDK does around it: retries (an answer is recorded once, a failure never), handoffs, guardrails,
sessions, hooks.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from agents import Model, ModelProvider, ModelResponse, RunConfig
from agents.agent_output import AgentOutputSchemaBase
from agents.items import TResponseStreamEvent
from agents.models.interface import ModelTracing
from openai.types.responses import ResponseCompletedEvent, ResponseOutputItemDoneEvent

from governor_agents.adapters.openai_agents import answers
from governor_agents.adapters.openai_agents.stretch import enclosing, stretch_here
from governor_agents.claims import Claim, current_claim
from governor_agents.errors import ReplayDiverges, SnapshotError
from governor_agents.responses import Chain

log = logging.getLogger(__name__)

_recorded: weakref.WeakValueDictionary[int, RecordedModel] = weakref.WeakValueDictionary()


def recorded(model: Model) -> Model:
    """This model, recorded; the same object for the same model."""
    if type(model) is RecordedModel:
        return model
    found = _recorded.get(id(model))
    if found is None or found.recorded is not model:
        found = _recorded[id(model)] = RecordedModel(model)
    return found


def recording(config: RunConfig | Mapping[str, Any] | None) -> RunConfig:
    """The user's run configuration, with every model that it leads to recorded."""
    found = config if isinstance(config, RunConfig) else RunConfig(**(config or {}))
    model = recorded(found.model) if isinstance(found.model, Model) else found.model
    provider = found.model_provider
    provider = provider if isinstance(provider, RecordedProvider) else RecordedProvider(provider)
    return replace(found, model=model, model_provider=provider)


class RecordedModel(Model):
    """Stands in front of a model."""

    def __init__(self, model: Model) -> None:
        self.recorded = model

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """That of the model: the SDK treats some models by their class."""
        return type(self.recorded)

    def __getattr__(self, name: str) -> Any:
        if name == "recorded":  # a copy that is being made has none yet
            raise AttributeError(name)
        return getattr(self.recorded, name)

    async def get_response(
        self,
        system_instructions: str | None,
        input: Any,
        model_settings: Any,
        tools: list[Any],
        output_schema: AgentOutputSchemaBase | None,
        handoffs: list[Any],
        tracing: ModelTracing,
        **conversation: Any,
    ) -> ModelResponse:
        """The recorded answer where there is one; else the model's, held until a tool is about to start."""
        place = await _place(system_instructions, input, tools, output_schema, handoffs, conversation)
        if place is not None and place.given is not None:
            return place.given
        answer = await self.recorded.get_response(
            system_instructions, input, model_settings, tools, output_schema, handoffs, tracing, **conversation
        )
        return answer if place is None else place.hold(answer)

    async def stream_response(
        self,
        system_instructions: str | None,
        input: Any,
        model_settings: Any,
        tools: list[Any],
        output_schema: AgentOutputSchemaBase | None,
        handoffs: list[Any],
        tracing: ModelTracing,
        **conversation: Any,
    ) -> AsyncIterator[TResponseStreamEvent]:
        """The same as a stream. A recorded answer comes as its last event alone; the others nobody needs any more."""
        place = await _place(system_instructions, input, tools, output_schema, handoffs, conversation)
        if place is not None and place.given is not None:
            yield answers.last_event(place.given)
            return
        items: list[Any] = []
        events = self.recorded.stream_response(
            system_instructions, input, model_settings, tools, output_schema, handoffs, tracing, **conversation
        )
        try:
            async for event in events:
                if isinstance(event, ResponseOutputItemDoneEvent):
                    items.append(event.item)
                if place is not None and isinstance(event, ResponseCompletedEvent):
                    event.response.output = place.hold(answers.from_stream(event.response, items)).output
                yield event
        finally:
            close = getattr(events, "aclose", None)
            if close is not None:
                await close()

    async def _cleanup_on_run_end(self, owner: object) -> None:
        await self.recorded._cleanup_on_run_end(owner)

    async def close(self) -> None:
        """Release what the model holds."""
        await self.recorded.close()

    def get_retry_advice(self, request: Any) -> Any:
        """The model's own advice."""
        return self.recorded.get_retry_advice(request)


class RecordedProvider(ModelProvider):
    """A provider whose models are recorded."""

    def __init__(self, provider: ModelProvider) -> None:
        self.recorded = provider

    def get_model(self, model_name: str | None) -> Model:
        """The provider's model, recorded."""
        return recorded(self.recorded.get_model(model_name))

    async def aclose(self) -> None:
        """Release what the provider holds."""
        await self.recorded.aclose()


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the stretch a model is asked, and the recorded answer if there is one."""

    claim: Claim
    chain: Chain
    request: tuple[str, ...]
    given: ModelResponse | None

    def hold(self, answer: ModelResponse) -> ModelResponse:
        """Hold a fresh answer; it goes on in the form in which it would be given back.

        One that cannot be written down goes on as it is: should this process die after its tools ran, the run is
        parked.
        """
        try:
            content = answers.dump(answer)
            again = answers.load(content)
        except Exception:
            log.warning("what a model answered in run %s cannot be recorded", self.claim.run, exc_info=True)
            return answer
        self.claim.responses.hold(self.chain, self.request, content, answers.call_ids(again))
        return again


async def _place(
    instructions: str | None,
    input: Any,
    tools: list[Any],
    output_schema: AgentOutputSchemaBase | None,
    handoffs: list[Any],
    conversation: Mapping[str, Any],
) -> _Place | None:
    """None outside of a stretch, and for a request that has no plain form. A replay that diverges stops the loop."""
    claim, stretch = current_claim(), stretch_here()
    if claim is None or stretch is None:
        return None
    try:
        request = answers.digests(instructions, input, tools, output_schema, handoffs, conversation)
    except (TypeError, ValueError):
        log.warning("what a model was asked in run %s cannot be recorded", claim.run, exc_info=True)
        return None
    try:
        content = claim.responses.given(enclosing(), request)
        given = None if content is None else answers.load(content)
    except (ReplayDiverges, SnapshotError) as error:
        await stretch.stop(error)
    return _Place(claim, enclosing(), request, given)
