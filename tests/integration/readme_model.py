"""Runs a snippet of the README without a provider: ``readme_model.py app.py``, or ``readme_model.py worker app:governor``.

What stands in the snippet stays as it is; only where the frameworks turn the name of a model into a client, a scripted
model is put in its place. It makes the calls of ``$SCRIPTED_CALLS`` one after the other (default: a refund of 120), and
then repeats what it was told.
"""

import json
import os
import runpy
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

CALLS = json.loads(os.environ.get("SCRIPTED_CALLS", '[["refund", {"order": "4711", "amount": 120.0}]]'))


def patch_openai_agents() -> None:
    """A model for every name, where the SDK looks names up."""
    from agents import Model, ModelResponse, Usage
    from agents.models.multi_provider import MultiProvider
    from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

    class Scripted(Model):
        async def get_response(self, system_instructions: Any, input: Any, *args: Any, **kwargs: Any) -> ModelResponse:
            items = [] if isinstance(input, str) else input
            told = [str(item["output"]) for item in items if item.get("type") == "function_call_output"]
            return ModelResponse(output=[self._next(told)], usage=Usage(), response_id=None)

        def _next(self, told: list[str]) -> Any:
            if len(told) < len(CALLS):
                (tool, args), call = CALLS[len(told)], f"call_{uuid.uuid4().hex}"
                return ResponseFunctionToolCall(
                    type="function_call", call_id=call, name=tool, arguments=json.dumps(args)
                )
            words = [ResponseOutputText(type="output_text", text=told[-1], annotations=[])]
            return ResponseOutputMessage(id="m", type="message", role="assistant", status="completed", content=words)

        def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            raise NotImplementedError

    MultiProvider.get_model = lambda self, model_name: Scripted()  # type: ignore[method-assign]


def patch_langchain() -> None:
    """A model for every name, where ``create_agent`` looks names up."""
    from langchain.agents import factory
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
    from langchain_core.outputs import ChatGeneration, ChatResult

    class Scripted(BaseChatModel):
        @property
        def _llm_type(self) -> str:
            return "scripted"

        def bind_tools(self, tools: Any, **kwargs: Any) -> "Scripted":
            return self

        def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
            told = [message for message in messages if isinstance(message, ToolMessage)]
            message = AIMessage(str(told[-1].content)) if told else AIMessage("")
            if len(told) < len(CALLS):
                tool, given = CALLS[len(told)]
                message = AIMessage("", tool_calls=[{"name": tool, "args": given, "id": f"call_{uuid.uuid4().hex}"}])
            return ChatResult(generations=[ChatGeneration(message=message)])

    factory.init_chat_model = lambda *args, **kwargs: Scripted()


def main() -> None:
    text = Path("app.py").read_text(encoding="utf-8")
    if "from agents import" in text:
        patch_openai_agents()
    if "from langchain" in text:
        patch_langchain()
    del sys.argv[0]
    if sys.argv[0] == "worker":
        from governor_agents.cli import main as cli

        sys.argv.insert(0, "governor-agents")
        cli()
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
