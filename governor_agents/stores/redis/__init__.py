"""The Redis store: plain Redis from 6.2, Valkey and managed offerings, without any module.

``store`` is the driver. In reading order: ``place`` (the URL), ``keys`` (what lies where), ``scripts`` and the ``.lua``
files beside it (each write is one of them), ``watched`` (the same without scripts), ``wire`` and ``servers`` (which
connection goes where), ``safety`` (the start-up check), ``failure`` (what errors mean), ``waking`` (the hint).
"""

from governor_agents.stores.redis.store import RedisStore

__all__ = ["RedisStore"]
