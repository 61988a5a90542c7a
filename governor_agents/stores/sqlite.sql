-- What the SQLite store says to SQLite. Each block is looked up by its name; guards stand inside the statements, so that
-- the database, not the program, decides who wins.

-- migration: 1
-- Index fields are columns, because their list is closed. A rowid table: bodies may be large, and the keys of its
-- indexes stay small. Each partial index costs nothing for records without that field.
CREATE TABLE ga_record (
    kind TEXT NOT NULL,
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    v INTEGER NOT NULL,
    due REAL,
    state TEXT,
    agent TEXT,
    requester TEXT,
    conversation TEXT,
    pending TEXT,
    body BLOB NOT NULL,
    ops TEXT NOT NULL,
    PRIMARY KEY (kind, tenant, id)
);
CREATE INDEX ga_record_due ON ga_record (kind, tenant, due, id) WHERE due IS NOT NULL;
CREATE INDEX ga_record_state ON ga_record (kind, tenant, state, id) WHERE state IS NOT NULL;
CREATE INDEX ga_record_agent ON ga_record (kind, tenant, agent, id) WHERE agent IS NOT NULL;
CREATE INDEX ga_record_requester ON ga_record (kind, tenant, requester, id) WHERE requester IS NOT NULL;
CREATE INDEX ga_record_conversation ON ga_record (kind, tenant, conversation, id) WHERE conversation IS NOT NULL;
CREATE INDEX ga_record_pending ON ga_record (kind, tenant, pending, id) WHERE pending IS NOT NULL;
CREATE TABLE ga_event (
    kind TEXT NOT NULL,
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (kind, tenant, id, seq)
) WITHOUT ROWID;
CREATE TABLE ga_blob (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (tenant, id)
);
-- The highest time this database ever wrote at: no clock of any process can take it back.
CREATE TABLE ga_clock (one INTEGER PRIMARY KEY CHECK (one = 1), floor REAL NOT NULL);
INSERT INTO ga_clock VALUES (1, 0.0);

-- migration: 2
-- The minute of a record's last event: what checkpoints of the audit trail look for.
ALTER TABLE ga_record ADD COLUMN changed TEXT;
CREATE INDEX ga_record_changed ON ga_record (kind, tenant, changed, id) WHERE changed IS NOT NULL;

-- migration: 3
-- A record owns its blobs. Those written before go to the records whose bodies name them.
ALTER TABLE ga_blob RENAME TO ga_blob_before;
CREATE TABLE ga_blob (
    kind TEXT NOT NULL,
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    digest TEXT NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (kind, tenant, id, digest)
);
INSERT INTO ga_blob SELECT r.kind, r.tenant, r.id, b.id, b.data FROM ga_blob_before b
JOIN ga_record r ON r.tenant = b.tenant
 AND (r.kind = 'run' AND instr(CAST(r.body AS TEXT), b.id) > 0 OR r.kind = 'audit' AND r.id = 'checkpoints');
DROP TABLE ga_blob_before;

-- name: has_schema
SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'ga_schema';

-- name: create_schema
CREATE TABLE IF NOT EXISTS ga_schema (version INTEGER PRIMARY KEY, migrated REAL NOT NULL);

-- name: version
SELECT coalesce(max(version), 0) FROM ga_schema;

-- name: migrated
INSERT INTO ga_schema VALUES (:version, :now);

-- name: floor
SELECT floor FROM ga_clock WHERE one = 1;

-- name: raise_floor
UPDATE ga_clock SET floor = :now WHERE one = 1 AND floor < :now;

-- name: insert
INSERT INTO ga_record (kind, tenant, id, v, due, state, agent, requester, conversation, pending, changed, body, ops)
VALUES (:kind, :tenant, :id, max(:v, 1), :due, :state, :agent, :requester, :conversation, :pending, :changed, :body, :op)
ON CONFLICT DO NOTHING;

-- name: swap
-- The ops are one text of fixed-length marks, the newest first, cut off behind the last one kept.
UPDATE ga_record SET v = v + 1, body = :body, ops = substr(:op || ops, 1, :ops_length)
WHERE kind = :kind AND tenant = :tenant AND id = :id AND v = :v
  AND instr(ops, :op) = 0
  AND (:not_after IS NULL OR :not_after >= :now);

-- name: move
-- Columns that often change. Naming an indexed column in an update rewrites its index, changed or not, hence the guards
-- here and below: most swaps touch no index at all.
UPDATE ga_record SET due = :due, state = :state, pending = :pending
WHERE kind = :kind AND tenant = :tenant AND id = :id
  AND (due IS NOT :due OR state IS NOT :state OR pending IS NOT :pending);

-- name: relabel
-- Columns that hardly ever change.
UPDATE ga_record SET agent = :agent, requester = :requester, conversation = :conversation
WHERE kind = :kind AND tenant = :tenant AND id = :id
  AND (agent IS NOT :agent OR requester IS NOT :requester OR conversation IS NOT :conversation);

-- name: date
UPDATE ga_record SET changed = :changed
WHERE kind = :kind AND tenant = :tenant AND id = :id AND changed IS NOT :changed;

-- name: add_event
INSERT INTO ga_event (kind, tenant, id, seq, body) VALUES (:kind, :tenant, :id, :seq, :body);

-- name: add_blob
INSERT INTO ga_blob (kind, tenant, id, digest, data) VALUES (:kind, :tenant, :id, :digest, :data)
ON CONFLICT DO NOTHING;

-- name: has_op
SELECT instr(ops, :op) > 0 FROM ga_record WHERE kind = :kind AND tenant = :tenant AND id = :id;

-- name: delete
DELETE FROM ga_record WHERE kind = :kind AND tenant = :tenant AND id = :id AND v = :v;

-- name: delete_events
DELETE FROM ga_event WHERE kind = :kind AND tenant = :tenant AND id = :id;

-- name: delete_blobs
DELETE FROM ga_blob WHERE kind = :kind AND tenant = :tenant AND id = :id;

-- name: load
SELECT kind, tenant, id, v, due, body, agent, changed, conversation, pending, requester, state FROM ga_record
WHERE kind = :kind AND tenant = :tenant AND id = :id;

-- name: due
SELECT kind, tenant, id, v, due, body, agent, changed, conversation, pending, requester, state FROM ga_record
WHERE kind = :kind AND tenant = :tenant AND due <= :now AND (due, id) > (:after_due, :after_id)
ORDER BY due, id LIMIT :limit;

-- name: list
-- {where} becomes one condition per index field asked for, see `list_statement`.
SELECT kind, tenant, id, v, due, body, agent, changed, conversation, pending, requester, state FROM ga_record
WHERE kind = :kind AND tenant = :tenant AND id > :after{where}
ORDER BY id LIMIT :limit;

-- name: count
-- How many records have this value of an index field, as far as :most. Answered from the index alone.
SELECT count(*) FROM (
    SELECT 1 FROM ga_record WHERE kind = :kind AND tenant = :tenant AND {field} = :{field} AND id > :after LIMIT :most
);

-- name: scan
SELECT kind, tenant, id, v, due, body, agent, changed, conversation, pending, requester, state FROM ga_record
WHERE kind = :kind AND (tenant, id) > (:after_tenant, :after_id)
ORDER BY tenant, id LIMIT :limit;

-- name: blob
SELECT data FROM ga_blob WHERE kind = :kind AND tenant = :tenant AND id = :id AND digest = :digest;

-- name: blobs
SELECT digest FROM ga_blob WHERE kind = :kind AND tenant = :tenant AND id = :id ORDER BY digest;

-- name: events
SELECT seq, body FROM ga_event WHERE kind = :kind AND tenant = :tenant AND id = :id AND seq > :after
ORDER BY seq LIMIT :limit;

-- name: add_to_counter
UPDATE ga_record SET
    v = v + 1,
    body = CAST(CAST(CAST(body AS INTEGER) + :amount AS TEXT) AS BLOB),
    ops = substr(:op || ops, 1, :ops_length)
WHERE kind = 'counter' AND tenant = :tenant AND id = :id
  AND instr(ops, :op) = 0
  AND CAST(body AS INTEGER) + :amount <= :limit;

-- name: start_counter
INSERT INTO ga_record (kind, tenant, id, v, body, ops)
SELECT 'counter', :tenant, :id, 1, CAST(CAST(:amount AS TEXT) AS BLOB), :op WHERE :amount <= :limit
ON CONFLICT DO NOTHING;

-- name: counter
SELECT CAST(body AS INTEGER), instr(ops, :op) > 0 FROM ga_record WHERE kind = 'counter' AND tenant = :tenant AND id = :id;
