-- Schema 1. Times are microseconds since 1970; labels are a JSON object or NULL.

CREATE TABLE records (
	type     TEXT    NOT NULL,
	mesh     TEXT    NOT NULL,
	name     TEXT    NOT NULL,
	labels   TEXT,
	spec     BLOB,
	status   BLOB,
	version  INTEGER NOT NULL,
	created  INTEGER NOT NULL,
	modified INTEGER NOT NULL,
	PRIMARY KEY (type, mesh, name) -- in this order, so that a list by type and mesh is a range
) STRICT;

-- One row: the newest revision, and the newest one that the log has forgotten.
CREATE TABLE log_head (
	one       INTEGER PRIMARY KEY CHECK (one = 1),
	rev       INTEGER NOT NULL,
	compacted INTEGER NOT NULL
) STRICT;
INSERT INTO log_head VALUES (1, 0, 0);

-- Full records, so that the log also answers what a resource was.
-- version is NULL when the resource was deleted.
CREATE TABLE log (
	rev      INTEGER NOT NULL,
	seq      INTEGER NOT NULL,
	time     INTEGER NOT NULL,
	author   TEXT    NOT NULL,
	type     TEXT    NOT NULL,
	mesh     TEXT    NOT NULL,
	name     TEXT    NOT NULL,
	labels   TEXT,
	spec     BLOB,
	status   BLOB,
	version  INTEGER,
	created  INTEGER,
	modified INTEGER,
	PRIMARY KEY (rev, seq)
) STRICT;
