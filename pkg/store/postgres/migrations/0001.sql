-- Schema 1. Names are prefixed, so that a database can be shared.
-- Text compares bytewise: lists have the order that every store gives them.

CREATE TABLE atoll_record (
	type     text COLLATE "C" NOT NULL,
	mesh     text COLLATE "C" NOT NULL,
	name     text COLLATE "C" NOT NULL,
	labels   jsonb,
	spec     bytea,
	status   bytea,
	version  bigint NOT NULL,
	created  timestamptz NOT NULL,
	modified timestamptz NOT NULL,
	PRIMARY KEY (type, mesh, name) -- in this order, so that a list by type and mesh is a range
);

-- One row: the newest revision, and the newest one that the log has forgotten.
-- Its lock is what puts commits in order. It is updated in every commit; room on
-- its page keeps those updates out of the index.
CREATE TABLE atoll_log_head (
	one       boolean PRIMARY KEY DEFAULT true CHECK (one),
	rev       bigint NOT NULL,
	compacted bigint NOT NULL
) WITH (fillfactor = 10);
INSERT INTO atoll_log_head (rev, compacted) VALUES (0, 0);

-- Full records, so that the log also answers what a resource was.
-- version is null when the resource was deleted.
CREATE TABLE atoll_log (
	rev      bigint NOT NULL,
	seq      integer NOT NULL,
	time     timestamptz NOT NULL,
	author   text NOT NULL,
	type     text COLLATE "C" NOT NULL,
	mesh     text COLLATE "C" NOT NULL,
	name     text COLLATE "C" NOT NULL,
	labels   jsonb,
	spec     bytea,
	status   bytea,
	version  bigint,
	created  timestamptz,
	modified timestamptz,
	PRIMARY KEY (rev, seq)
);

-- token grows each time the lease changes hands; an empty holder has given it up.
CREATE TABLE atoll_lease (
	name    text PRIMARY KEY,
	holder  text NOT NULL,
	token   bigint NOT NULL,
	expires timestamptz NOT NULL
) WITH (fillfactor = 10);
