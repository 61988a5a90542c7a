"""The arguments of a plain function: bound by its signature, frozen as JSON, and given back to it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from governor_agents.core.calls import freeze, sha256, thaw
from governor_agents.errors import ArgumentsError


class Parameters:
    """How a function is called. A first parameter ``self`` or ``cls`` is an object, not an argument."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self._name = name
        self._signature = inspect.signature(function)
        self.method = next(iter(self._signature.parameters), "") in ("self", "cls")

    def freeze(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, bytes]:
        """The object (None for a plain function) and the frozen arguments. Raises `ArgumentsError`."""
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ArgumentsError(f"{self._name}: {error}") from None
        bound.apply_defaults()
        arguments: dict[str, Any] = {}
        instance = None
        for at, (name, value) in enumerate(bound.arguments.items()):
            kind = self._signature.parameters[name].kind
            if at == 0 and self.method:
                instance = value
            elif kind is inspect.Parameter.VAR_KEYWORD:
                if clash := sorted(set(value) & set(arguments)):
                    raise ArgumentsError(f"{self._name}: two arguments are called {clash[0]!r}")
                arguments.update(value)
            else:
                arguments[name] = list(value) if kind is inspect.Parameter.VAR_POSITIONAL else value
        try:
            return instance, freeze(arguments)
        except ArgumentsError as error:
            raise ArgumentsError(f"{self._name}: {error}") from None

    def thaw(self, instance: Any, args: bytes) -> tuple[list[Any], dict[str, Any]]:
        """What to call the function with. Raises `ArgumentsError` when an edit made that impossible."""
        given = thaw(args)
        parameters = list(self._signature.parameters.values())[1 if self.method else 0 :]
        rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), "")
        by_place = [p for p in parameters if p.kind is p.POSITIONAL_ONLY]
        if given.get(rest):  # then those before it must be given by place too
            by_place = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        positional: list[Any] = [instance] if self.method else []
        missing = ""
        for parameter in by_place:
            if parameter.name not in given:
                missing = missing or parameter.name
            elif missing:
                raise ArgumentsError(f"{self._name}: {missing!r} is missing before {parameter.name!r}")
            else:
                positional.append(given.pop(parameter.name))
        more = given.pop(rest, []) if rest else []
        return [*positional, *more], given

    @property
    def sha256(self) -> str:
        """A hash of the parameters that is the same in every process: no addresses of default objects."""
        parts = []
        for parameter in self._signature.parameters.values():
            given = parameter.default is not parameter.empty
            plain = isinstance(parameter.default, (str, int, float, bool, type(None)))
            default = repr(parameter.default) if given and plain else type(parameter.default).__qualname__
            annotation = parameter.annotation
            named = annotation if isinstance(annotation, str) else getattr(annotation, "__qualname__", str(annotation))
            parts.append([parameter.name, parameter.kind.name, named, default if given else ""])
        return sha256(freeze(parts))
