"""The Redis store: plain Redis from 6.2 and what speaks like it, without any module.

In reading order: ``place`` (the URL), ``keys`` (what lies where), ``namespace``, ``rows`` (read back), ``writes``
and the ``.lua`` files with ``scripts`` (each write is one of them), ``deciding`` and ``watched`` (the same where no
scripts are permitted), ``wire``, ``where`` and ``servers`` (which connection goes where), ``safety`` (the start-up
check), ``failure`` (what errors mean), ``waking`` (the hint), ``client`` (all of it, open), ``store`` (the driver).
"""

from governor_agents.stores.redis.store import RedisStore

__all__ = ["RedisStore"]
