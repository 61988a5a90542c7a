"""``python -m governor_agents``: the same as the console script ``governor-agents``."""

from governor_agents.cli import main

if __name__ == "__main__":
    main()
