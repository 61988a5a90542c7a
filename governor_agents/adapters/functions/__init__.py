"""Plain functions and methods, governed without any agent framework.

A call that needs people becomes a run of one call. Whoever waits for it is its *waiter*, with a lease: while the waiter
lives, it runs the function itself, in its own process. Once that lease has lapsed, or when nobody waited
(`Governed.ask`), a worker that knows the function runs it. A method cannot be run elsewhere, its object is gone: such
a run is BLOCKED.

What this does not do: allowed calls are not journalled; return values that are not plain JSON are recorded as text.
"""

from governor_agents.adapters.functions.governed import Governed, Pending
from governor_agents.adapters.functions.register import Functions

__all__ = ["Functions", "Governed", "Pending"]
