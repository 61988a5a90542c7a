"""The user's governor by its place in the code: ``APP:GOVERNOR``."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from governor_agents.core.urls import shown
from governor_agents.errors import ConfigError, GovernorError

if TYPE_CHECKING:
    from governor_agents.governor import Governor


def load_governors(spec: str, people: str | None = None) -> list[Governor]:
    """The governor, or the list of them, that ``module:name`` means; the current directory is looked in first.

    ``people`` is the people file for those that name no directory. Raises `ConfigError` that says what is wrong with
    it, and what the module itself raises of `GovernorError`.
    """
    if people is None:
        return _load(spec)
    os.environ["GOVERNOR_PEOPLE"] = people  # what the governor of the app takes by default
    found = _load(spec)
    for governor in found:
        path = getattr(governor.identities.directory, "path", None)
        if path is None or path.resolve() != Path(people).resolve():
            own = "names its directory of people itself"
            raise ConfigError(f"{spec} {own}: leave --people out, or let the app name none and take GOVERNOR_PEOPLE")
    return found


def _load(spec: str) -> list[Governor]:
    from governor_agents.governor import Governor

    module_name, _, name = spec.partition(":")
    if not module_name or not name:
        raise ConfigError(f"{spec}: write APP:GOVERNOR, such as app:governor for `governor` in app.py")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except GovernorError:
        raise
    except Exception as error:
        raise ConfigError(_why(module_name, error)) from error
    try:
        for part in name.split("."):
            found = getattr(found, part)
    except AttributeError as error:
        raise ConfigError(f"{spec}: {error}") from None
    governors = list(found) if isinstance(found, list | tuple) else [found]
    if not governors or not all(isinstance(governor, Governor) for governor in governors):
        raise ConfigError(f"{spec} is a {type(found).__name__}; it must be a Governor or a list of them")
    return governors


def _why(module_name: str, error: Exception) -> str:
    """What broke the import, and where."""
    if isinstance(error, ModuleNotFoundError) and error.name and f"{module_name}.".startswith(f"{error.name}."):
        return f"there is no module {error.name} in {Path.cwd()} or on the Python path"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    at = f" ({frames[-1].filename}, line {frames[-1].lineno})" if len(frames) > 1 else ""
    return f"{module_name} cannot be imported: {type(error).__name__}: {error}{at}"


def check_store(spec: str, governor: Governor, store: str | None) -> None:
    """Raise `ConfigError` unless other processes see the governor's store, and it is the one of ``--store`` if any."""
    if not governor.store.shared:
        raise ConfigError(
            f"{spec} keeps its runs in {shown(governor.store.url)}, which no other process can see; give it a file"
        )
    if store is not None:
        from governor_agents.stores import open_store

        if open_store(store).url != governor.store.url:
            raise ConfigError(
                f"{spec} names its store itself: leave --store out, or let the app name none and take GOVERNOR_STORE"
            )
