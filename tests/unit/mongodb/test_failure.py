"""What the driver's errors become: one line, one type, the mend, and no password."""

import pytest
from bson.errors import InvalidBSON
from pymongo import errors as theirs

from governor_agents.errors import StoreError, StoreUnavailable
from governor_agents.stores.mongodb.failure import failure, translated
from governor_agents.stores.mongodb.safety import engine_lines, server_of

SHOWN = "mongodb://h/d"
TOPOLOGY = (
    "h:1: [Errno 111] Connection refused (configured timeouts: socketTimeoutMS: 20000.0ms), Timeout: 5.0s, Topology "
    "Description: <TopologyDescription id: 6, topology_type: Unknown, servers: [<ServerDescription ('h', 1)>]>"
)

DOUBTS = [
    (theirs.AutoReconnect("connection closed"), "connection broke"),
    (theirs.NetworkTimeout("h:1: timed out"), "in time"),
    (theirs.NotPrimaryError("not primary"), "primary"),
    (theirs.ServerSelectionTimeoutError(TOPOLOGY), "no server answers (h:1: [Errno 111] Connection refused)"),
    (theirs.ServerSelectionTimeoutError("SSL handshake failed: h:1: [SSL] record layer, Timeout: 5s"), "TLS"),
    (theirs.ServerSelectionTimeoutError("No replica set members match, Timeout: 5s"), "replicaSet"),
    (theirs.ServerSelectionTimeoutError("h:1: connection closed, Timeout: 5s"), "tls=true"),
    (theirs.WTimeoutError("waiting for replication timed out", 64), "may stand or not"),
    (theirs.WriteConcernError("no", 91), "may stand or not"),
    (theirs.ExecutionTimeout("operation exceeded time limit", 50), "too long"),
    (theirs.WaitQueueTimeoutError("no connection"), "connection"),
    (theirs.OperationFailure("Authentication failed., full error: {'x': 1}", 18), "user or password"),
    (theirs.OperationFailure("not authorized on d to execute command", 13), "readWrite"),
    (theirs.OperationFailure("interrupted at shutdown", 11600), "11600"),
    (theirs.OperationFailure("no", 99999, {"errmsg": "no", "errorLabels": ["RetryableWriteError"]}), "99999"),
    (theirs.OperationFailure("cannot use 'j' option when a host does not have journaling enabled", 2), "no journal"),
    (theirs.BulkWriteError({"writeErrors": [], "writeConcernErrors": [{"code": 64}]}), "may stand or not"),
    (theirs.ConfigurationError("Server at h reports wire version 6, but PyMongo requires at least 8"), "MongoDB 5.0"),
    (theirs.ConfigurationError("The DNS query name does not exist: _mongodb._tcp.h."), "DNS"),
]


@pytest.mark.parametrize(("error", "says"), DOUBTS, ids=lambda each: type(each).__name__)
def test_what_may_pass_is_unavailable(error: Exception, says: str) -> None:
    """A write that met it may stand or not, so it is sent again under its op id; a worker goes on trying."""
    ours = failure(SHOWN, error)
    assert isinstance(ours, StoreUnavailable)
    text = str(ours)
    assert says in text and SHOWN in text and "\n" not in text and "Topology" not in text and "full error" not in text


@pytest.mark.parametrize(
    "error",
    [
        theirs.OperationFailure("BSON field is unknown", 40415),
        theirs.DocumentTooLarge("too large"),
        theirs.InvalidOperation("Cannot use MongoClient after close"),
        InvalidBSON("bad"),
        theirs.PyMongoError("something"),
    ],
)
def test_what_stays_wrong_is_a_store_error(error: Exception) -> None:
    """The control: not everything is worth another try."""
    ours = failure(SHOWN, error)
    assert isinstance(ours, StoreError) and not isinstance(ours, StoreUnavailable) and "\n" not in str(ours)


def test_errors_of_others_pass_through() -> None:
    """What is not the driver's is not explained away; a client on another loop is."""
    with pytest.raises(KeyError), translated(SHOWN):
        raise KeyError("x")
    with pytest.raises(RuntimeError, match="other"), translated(SHOWN):
        raise RuntimeError("some other trouble")
    with pytest.raises(StoreError, match="another event loop"), translated(SHOWN):
        raise RuntimeError("Cannot use AsyncMongoClient in different event loop")


@pytest.mark.parametrize(
    ("hello", "says"),
    [
        ({"maxWireVersion": 12, "isWritablePrimary": True}, "MongoDB 5.0"),
        ({"isWritablePrimary": True}, "MongoDB 5.0"),
        ({"maxWireVersion": 21, "isWritablePrimary": False, "secondary": True, "setName": "r"}, "replica"),
        ({"maxWireVersion": 21}, "replica"),
    ],
)
def test_servers_that_cannot_do_the_work_are_refused(hello: dict[str, object], says: str) -> None:
    """Too old, or a replica that cannot be written."""
    with pytest.raises(StoreUnavailable, match=says):
        server_of(hello, SHOWN)


def test_servers_that_can_are_told_apart() -> None:
    """A replica set and a router of several have what one server alone has not."""
    assert server_of({"maxWireVersion": 13, "isWritablePrimary": True, "setName": "r"}, SHOWN).replicated
    assert server_of({"maxWireVersion": 21, "isWritablePrimary": True, "msg": "isdbgrid"}, SHOWN).replicated
    assert not server_of({"maxWireVersion": 21, "isWritablePrimary": True}, SHOWN).replicated


def test_an_engine_without_a_disk_is_unsafe() -> None:
    """What is kept in memory alone is lost with the process."""
    assert "wiredTiger" in engine_lines({"name": "inMemory", "persistent": False})[0]
    assert engine_lines({"name": "wiredTiger", "persistent": True}) == engine_lines({}) == []
