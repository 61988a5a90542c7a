"""``python -m governor_agents.demo PHASE``: one process of the demo."""

import sys

from governor_agents.demo.phases import main

sys.exit(main())
