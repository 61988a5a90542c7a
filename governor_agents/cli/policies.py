"""Commands that ask the policies again: which ones, by ``--policy FILE`` or ``--app APP:GOVERNOR``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from governor_agents.cli.loading import load_governors
from governor_agents.cli.opening import Place
from governor_agents.errors import ConfigError

if TYPE_CHECKING:
    from governor_agents.governor import Governor

PolicyFiles = Annotated[
    list[str] | None,
    typer.Option("--policy", metavar="FILE", help="The policy file, or several; default governor.yaml, if it is here."),
]
OfApp = Annotated[
    str | None, typer.Option("--app", metavar="APP:GOVERNOR", help="Ask the policies of this governor instead.")
]


def one_governor(spec: str) -> Governor:
    """The governor that ``APP:GOVERNOR`` means. Raises `ConfigError`."""
    found = load_governors(spec)
    if len(found) > 1:
        raise ConfigError(f"{spec} is a list; name the one governor whose policies are to be asked")
    return found[0]


def with_policies(place: Place, app: Governor | None, files: Sequence[str]) -> Callable[[], Governor] | None:
    """How to make a governor at this place whose policies can be asked; None when nothing names any."""
    if app is None and not files:
        if not Path("governor.yaml").exists():
            return None
        files = ["governor.yaml"]

    def make() -> Governor:
        from governor_agents.governor import Governor
        from governor_agents.publishing import Published

        if app is None:
            return Governor.from_file(*files, store=place.url, tenant=place.tenant, people=place.people)
        policies = app.policies.apart() if isinstance(app.policies, Published) else app.policies
        people = app.identities.directory or place.people
        return Governor(policies, store=place.url, tenant=place.tenant, env=app.env, people=people)

    return make
