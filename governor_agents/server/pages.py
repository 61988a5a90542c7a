"""Templates to answers. Every text in them is escaped; a name that a template does not know is an error."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources

import jinja2
from starlette.responses import HTMLResponse, Response

from governor_agents.handlers.visible import visible


@lru_cache(maxsize=1)
def _templates() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("governor_agents.server"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["visible"] = visible
    return made


def page(template: str, *, status: int = 200, **fields: object) -> HTMLResponse:
    """A page made from a template."""
    return HTMLResponse(_templates().get_template(template).render(**fields), status)


def stylesheet() -> Response:
    """The one stylesheet. It holds nothing of anybody's, so browsers may keep it for an hour."""
    css = resources.files("governor_agents.server").joinpath("static/pages.css").read_bytes()
    return Response(css, media_type="text/css; charset=utf-8", headers={"Cache-Control": "public, max-age=3600"})


def icon() -> Response:
    """The icon in the browser's tab."""
    svg = resources.files("governor_agents.server").joinpath("static/icon.svg").read_bytes()
    return Response(svg, media_type="image/svg+xml", headers={"Cache-Control": "public, max-age=86400"})
