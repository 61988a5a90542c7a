"""Looking into compiled graphs: which tools they reach, which of these are governed, which run graphs themselves.

LangChain hides tools and middleware in closures, so this looks into closures too. What it cannot see: nodes of your own
that call a tool directly, and tools that a middleware adds while the agent runs (the middleware governs those).
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from langchain_core.runnables import RunnableSequence
from langchain_core.tools import BaseTool
from langgraph.prebuilt import ToolNode
from langgraph.pregel import Pregel

from governor_agents import schemas
from governor_agents.core.calls import Json, freeze

Graph = Pregel[Any, Any, Any, Any]

_DEPTH = 12


@dataclass(frozen=True, slots=True)
class Reached:
    """A tool that a graph reaches: through which node, and whether something governs it there."""

    node: str
    tool: BaseTool
    governed: bool
    composite: bool


def schema_sha256(tool: BaseTool | None) -> str:
    """The hash of the parameters a model is shown; empty for a tool that nobody registered."""
    if tool is None:
        return ""
    schema: Any = tool.tool_call_schema
    shown = schema if isinstance(schema, dict) else schema.model_json_schema()
    return schemas.note(freeze(json.loads(json.dumps(shown, default=str))))


def tool_nodes(graph: Graph) -> Iterator[tuple[str, ToolNode]]:
    """The tool nodes of a graph and of the graphs that are its nodes, by node name."""
    for name, node in graph.nodes.items():
        for part in _parts(node.bound):
            if isinstance(part, ToolNode):
                yield name, part
            elif isinstance(part, Pregel) and part is not graph:
                for inner, found in tool_nodes(part):
                    yield f"{name}/{inner}", found


def _parts(bound: Any) -> Iterator[Any]:
    steps = bound.steps if isinstance(bound, RunnableSequence) else getattr(bound, "steps", None)
    if isinstance(steps, list):
        for step in steps:
            yield from _parts(step)
    else:
        yield bound


def reach(graph: Graph, governs: Callable[[Any], bool], _seen: set[int] | None = None) -> Iterator[Reached]:
    """Every tool of a graph, of its subgraphs, and of the graphs that its tools run."""
    seen = _seen if _seen is not None else set()
    if id(graph) in seen:
        return
    seen.add(id(graph))
    for name, node in tool_nodes(graph):
        hooked = any(hook is not None and governs(hook) for hook in hooks(node))
        for tool in node.tools_by_name.values():
            inner = graphs_of(tool)
            yield Reached(name, tool, hooked or governs(tool), bool(inner))
            for other in inner:
                for found in reach(other, governs, seen):
                    yield Reached(f"{name}/{tool.name}/{found.node}", found.tool, found.governed, found.composite)


def deaf(graph: Graph, _seen: set[int] | None = None) -> list[str]:
    """Tools that run a graph compiled with ``checkpointer=False``: it can never pause, and LangGraph 1.2 cannot run it
    inside a run that saves every step before the next one."""
    seen = _seen if _seen is not None else set()
    found: list[str] = []
    if id(graph) in seen:
        return found
    seen.add(id(graph))
    for name, node in tool_nodes(graph):
        for tool in node.tools_by_name.values():
            inner = graphs_of(tool)
            found += [f"{tool.name} ({name})"] if any(other.checkpointer is False for other in inner) else []
            found += [each for other in inner for each in deaf(other, seen)]
    return found


def hooks(node: ToolNode) -> tuple[Any, Any]:
    """The functions around a tool node's calls, sync and async."""
    return getattr(node, "_wrap_tool_call", None), getattr(node, "_awrap_tool_call", None)


def holds(function: Any, kind: type, depth: int = _DEPTH) -> bool:
    """True when a function is a method of such an object, or keeps one in its closure."""
    if isinstance(getattr(function, "__self__", function), kind):
        return True
    if depth == 0:
        return False
    wrapped = getattr(function, "__wrapped__", None)
    if wrapped is not None and holds(wrapped, kind, depth - 1):
        return True
    return any(callable(value) and holds(value, kind, depth - 1) for value in _cells(function))


def _cells(function: Any) -> list[Any]:
    found = []
    for cell in getattr(function, "__closure__", None) or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # not filled yet
            continue
    return found


def graphs_of(tool: BaseTool) -> list[Graph]:
    """The graphs that a tool's function names."""
    inner = getattr(tool, "governed_tool", None)
    if isinstance(inner, BaseTool):
        return graphs_of(inner)
    candidates: list[Any] = []
    for function in (getattr(tool, "func", None), getattr(tool, "coroutine", None)):
        candidates += _named(function)
    if type(tool)._run.__module__.split(".")[0] not in ("langchain_core", "langgraph"):
        candidates += [*vars(tool).values(), *_named(type(tool)._run), *_named(type(tool)._arun)]
    found: list[Graph] = []
    for value in candidates:
        for graph in value.values() if isinstance(value, dict) else [value]:
            graph = getattr(graph, "bound", graph)  # with_config(...) of a runnable
            if isinstance(graph, Pregel) and graph not in found:
                found.append(graph)
    return found


def _named(function: Any) -> list[Any]:
    """The values that a function's code names: from its closure, its module, and as defaults."""
    if function is None:
        return []
    function = inspect.unwrap(getattr(function, "func", function))
    owner = getattr(function, "__self__", None)
    found = list(vars(owner).values()) if owner is not None and hasattr(owner, "__dict__") else []
    function = getattr(function, "__func__", function)
    if not inspect.isfunction(function):
        return found + (list(vars(function).values()) if hasattr(function, "__dict__") else [])
    found += [*_cells(function), *(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    names = set(function.__code__.co_names)
    return found + [value for name, value in function.__globals__.items() if name in names]


def shape(graph: Graph, reached: list[Reached]) -> Json:
    """What must stay the same while a thread is suspended: nodes, tools and their parameters."""
    tools = sorted([found.node, found.tool.name, schema_sha256(found.tool)] for found in reached)
    return {"name": graph.name or "", "nodes": sorted(graph.nodes), "tools": tools}


def messages_of(state: Any) -> list[Any]:
    """The messages of a graph's state, whatever form it has."""
    if isinstance(state, list):
        return state
    found = state.get("messages", []) if isinstance(state, dict) else getattr(state, "messages", [])
    return found if isinstance(found, list) else []
