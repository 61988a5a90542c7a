"""The application whose requests are clicked on: people of one workspace may decide what a function wants to do."""

from governor_agents import Governor, PolicySet

TEAM, ALICE = "T01", "U02"

POLICY = f"""\
version: 1
approvals: {{approvers: ["slack:{TEAM}/{ALICE}"], channels: [slack], deadline: 30d}}
"""

governor = Governor(PolicySet.from_text(POLICY), secret=b"bench")


@governor.govern()
async def wire(amount: int, to: str) -> str:
    """What is asked for."""
    return f"{amount} to {to}"
