"""Stores over clients that a user made, for the store kit and the other processes in it."""

from typing import Any

from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient

from governor_agents.stores.mongodb import MongoDBStore
from governor_agents.stores.mongodb.place import Place


def open_motor(url: str) -> MongoDBStore:
    """A store over a Motor client."""
    client: Any = AsyncIOMotorClient(Place.of(url).driver)
    return MongoDBStore(url, client=client)


def open_given(url: str) -> MongoDBStore:
    """A store over an AsyncMongoClient that is not its own."""
    client: Any = AsyncMongoClient(Place.of(url).driver)
    return MongoDBStore(url, client=client)
