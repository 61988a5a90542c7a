"""The demo's governor as ``governor-agents serve`` and ``governor-agents worker`` load it, set up by the environment.

``$GOVERNOR_DEMO_FRAMEWORK`` says whose agent is registered; without it none is, which is all that ``serve`` needs.
"""

from __future__ import annotations

import os

from governor_agents.demo import shop
from governor_agents.demo.phases import governor as registered
from governor_agents.governor import Governor
from governor_agents.policies import PolicySet
from governor_agents.stores import default_url

_framework = os.environ.get("GOVERNOR_DEMO_FRAMEWORK", "")

governor: Governor = (
    registered(_framework, default_url())
    if _framework
    else Governor(PolicySet.from_text(shop.policy(), name="governor.yaml"))
)
