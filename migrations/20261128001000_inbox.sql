-- The inbox, each of its tables made for what is done to it: events are only added and dropped by the day, keys are only
-- looked for, pending marks come and go quickly, and what failed is apart from both.

ALTER TABLE inbox_events RENAME TO former_inbox_events;
ALTER TABLE former_inbox_events RENAME CONSTRAINT inbox_events_pkey TO former_inbox_events_pkey;
ALTER TABLE inbox_pending RENAME TO former_inbox_pending;

-- What was received, verified and answered with 200: raw, and never changed. A day is a partition.
CREATE TABLE inbox_events (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    received_at timestamptz NOT NULL,
    source_id uuid NOT NULL,
    -- What the order is kept within, as a number: the first 64 bits of the SHA-256 of the source's id and the subject.
    subject_key bigint NOT NULL,
    -- When it happened, where the sender says so.
    occurred_at timestamptz,
    service text NOT NULL,
    -- The tool's own name for it (message_created).
    type text NOT NULL,
    -- What it is about (conversation/26): events of one subject are processed in order.
    subject text NOT NULL,
    delivery_id text,
    -- Where it happened, where the sender says so (CloudEvents' source).
    source_uri text,
    -- Its key among inbox_keys.
    key_hash bytea NOT NULL,
    -- Headers and raw bytes, sealed with the master key: tools put live credentials into what they send.
    sealed_request bytea NOT NULL,
    PRIMARY KEY (tenant_id, id, received_at)
) PARTITION BY RANGE (received_at);
-- Sealed bytes can't be compressed.
ALTER TABLE inbox_events ALTER COLUMN sealed_request SET STORAGE EXTERNAL;
SELECT protect_tenant_table('inbox_events', 'app', ARRAY['SELECT']);
SELECT open_to_system('inbox_events', ARRAY['SELECT', 'INSERT']);

-- Makes the partitions of so many days where they are missing. A partition has row-level security of its own and no policy:
-- past the parent, nobody reads or writes it. Attaching doesn't hold up who inserts into other partitions.
CREATE FUNCTION make_inbox_partitions(first_day date, days integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public, pg_temp
    SET timezone = 'UTC'
    SET lock_timeout = '5s'
    AS $$
DECLARE
    made integer := 0;
    one_day date;
    name text;
BEGIN
    IF days NOT BETWEEN 1 AND 31 THEN
        RAISE EXCEPTION 'between 1 and 31 days at a time, not %', days;
    END IF;
    -- One replica after the other.
    PERFORM pg_advisory_xact_lock(2, 1);
    FOR one_day IN SELECT first_day + n FROM generate_series(0, days - 1) AS n LOOP
        name := 'inbox_events_' || to_char(one_day, 'YYYYMMDD');
        CONTINUE WHEN to_regclass('public.' || name) IS NOT NULL;
        EXECUTE format('CREATE TABLE public.%I (LIKE public.inbox_events INCLUDING ALL)', name);
        EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE public.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'ALTER TABLE public.inbox_events ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
            name, one_day::timestamptz, (one_day + 1)::timestamptz
        );
        made := made + 1;
    END LOOP;
    RETURN made;
END
$$;

-- Drops the partitions of the days before this one; yesterday and later stay whatever is asked for. Says how many it were.
CREATE FUNCTION drop_inbox_partitions(before_day date) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public, pg_temp
    SET timezone = 'UTC'
    -- While it waits for who reads, everybody else waits behind it: rather not today.
    SET lock_timeout = '1s'
    AS $$
DECLARE
    dropped integer := 0;
    name text;
BEGIN
    PERFORM pg_advisory_xact_lock(2, 1);
    FOR name IN
        SELECT child.relname FROM pg_inherits
        JOIN pg_class AS child ON child.oid = inhrelid
        WHERE inhparent = 'public.inbox_events'::regclass
          AND child.relname ~ '^inbox_events_[0-9]{8}$'
          AND to_date(right(child.relname, 8), 'YYYYMMDD') < least(before_day, current_date - 1)
        ORDER BY 1
    LOOP
        EXECUTE format('DROP TABLE public.%I', name);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END
$$;
REVOKE EXECUTE ON FUNCTION make_inbox_partitions(date, integer) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION drop_inbox_partitions(date) FROM PUBLIC;
DO $$
BEGIN
    EXECUTE format('GRANT EXECUTE ON FUNCTION make_inbox_partitions(date, integer) TO %I', chancery_role('worker'));
    EXECUTE format('GRANT EXECUTE ON FUNCTION drop_inbox_partitions(date) TO %I', chancery_role('worker'));
END
$$;

-- What has been received already, and how often again.
ALTER TABLE inbox_keys
    ADD COLUMN duplicates integer NOT NULL DEFAULT 0,
    ADD COLUMN last_duplicate_at timestamptz;
SELECT protect_tenant_table('inbox_keys', 'app', ARRAY['SELECT']);
SELECT open_to_system('inbox_keys', ARRAY['UPDATE']);

-- Who works on which lane. A subject is always in the same lane (the lowest bits of its key), so that who holds the lane
-- keeps the subject's order. The fence goes up with each claim: who has lost a lane finds another number and commits nothing.
CREATE TABLE inbox_lanes (
    lane smallint PRIMARY KEY,
    fence bigint NOT NULL DEFAULT 0,
    lease_until timestamptz
) WITH (fillfactor = 10);
INSERT INTO inbox_lanes (lane) SELECT generate_series(0, 15);
SELECT open_to_system('inbox_lanes', ARRAY['SELECT', 'UPDATE']);

-- What is still to be processed: narrow, written together with the event and deleted together with its effect. It has no
-- key: one index, in the order in which it is read, is all that is needed.
CREATE TABLE inbox_pending (
    -- The order of arrival.
    seq bigint GENERATED BY DEFAULT AS IDENTITY,
    subject_key bigint NOT NULL,
    received_at timestamptz NOT NULL,
    tenant_id uuid NOT NULL,
    event_id uuid NOT NULL,
    -- How much there will be to read.
    bytes integer NOT NULL,
    lane smallint NOT NULL,
    -- Whether somebody has asked for it to be processed again.
    replay boolean NOT NULL DEFAULT false
) WITH (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX inbox_pending_next ON inbox_pending (lane, tenant_id, seq);
SELECT protect_tenant_table('inbox_pending', 'app', ARRAY['SELECT', 'INSERT']);
SELECT open_to_system('inbox_pending', ARRAY['SELECT', 'INSERT', 'DELETE']);

-- What did not succeed at once, and what waits behind it. A subject with an event that is ready (to be tried again at run_at)
-- has its later events parked here; other subjects go on. Dead events hold up nobody.
CREATE TABLE inbox_failures (
    tenant_id uuid NOT NULL,
    event_id uuid NOT NULL,
    received_at timestamptz NOT NULL,
    subject_key bigint NOT NULL,
    -- Its place in the order of arrival, as in inbox_pending.
    seq bigint NOT NULL,
    bytes integer NOT NULL,
    lane smallint NOT NULL,
    state text NOT NULL CHECK (state IN ('ready', 'parked', 'dead', 'discarded', 'replaying')),
    -- How often it was tried since it came, or since it was replayed.
    attempts integer NOT NULL CHECK (attempts >= 0),
    run_at timestamptz NOT NULL,
    -- What kind of cause: poison, database, timeout, gone.
    cause text CHECK (length(cause) BETWEEN 1 AND 50),
    last_error text,
    -- Why and by whom it was discarded. Set on one that is ready, it tells the lane's worker to discard it.
    discard_reason text CHECK (length(discard_reason) BETWEEN 1 AND 500),
    discarded_by uuid,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, event_id)
);
CREATE INDEX inbox_failures_due ON inbox_failures (lane, run_at) WHERE state = 'ready';
CREATE INDEX inbox_failures_subject ON inbox_failures (tenant_id, subject_key, seq) WHERE state IN ('ready', 'parked');
CREATE INDEX inbox_failures_state ON inbox_failures (tenant_id, state, event_id);
SELECT protect_tenant_table('inbox_failures', 'app', ARRAY['SELECT', 'UPDATE']);
SELECT open_to_system('inbox_failures', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']);

-- The attempts that people ask about: failures, what came after a failure, and replays. One that succeeds at once is told by
-- its row of the timeline alone.
CREATE TABLE inbox_attempts (
    tenant_id uuid NOT NULL,
    event_id uuid NOT NULL,
    attempt integer NOT NULL CHECK (attempt >= 1),
    begun_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('done', 'failed', 'dead', 'discarded')),
    replay boolean NOT NULL,
    error text,
    PRIMARY KEY (tenant_id, event_id, attempt)
);
SELECT protect_tenant_table('inbox_attempts', 'app', ARRAY['SELECT']);
SELECT open_to_system('inbox_attempts', ARRAY['SELECT', 'INSERT', 'DELETE']);

-- A tenant's timeline: what the events told, normalised (the attributes of CloudEvents 1.0), and what followed. Written
-- together with the effects.
CREATE TABLE timeline (
    tenant_id uuid NOT NULL,
    event_id uuid NOT NULL,
    -- 0 is the event as received; what it consists of follows, where it is several (a Matrix transaction).
    part integer NOT NULL,
    source_id uuid NOT NULL,
    -- How often it has taken effect: once, and once more with each replay.
    runs integer NOT NULL DEFAULT 1,
    occurred_at timestamptz NOT NULL,
    processed_at timestamptz NOT NULL,
    service text NOT NULL,
    type text NOT NULL,
    subject text NOT NULL,
    -- CloudEvents' source, where the sender says it; else it is the source's own path.
    source_uri text,
    -- {"conversation": id, "jobs": ["kind key"]}
    effects jsonb NOT NULL,
    PRIMARY KEY (tenant_id, event_id, part)
);
SELECT protect_tenant_table('timeline', 'app', ARRAY['SELECT']);
SELECT protect_tenant_table('timeline', 'worker', ARRAY['SELECT', 'INSERT', 'UPDATE']);

-- What is there already moves over. The owner is subject to the policies, too.
ALTER TABLE former_inbox_events NO FORCE ROW LEVEL SECURITY;
ALTER TABLE former_inbox_pending NO FORCE ROW LEVEL SECURITY;
ALTER TABLE inbox_keys NO FORCE ROW LEVEL SECURITY;
ALTER TABLE inbox_events NO FORCE ROW LEVEL SECURITY;
ALTER TABLE inbox_pending NO FORCE ROW LEVEL SECURITY;
ALTER TABLE inbox_failures NO FORCE ROW LEVEL SECURITY;
SELECT make_inbox_partitions(day, 1) FROM (SELECT DISTINCT (received_at AT TIME ZONE 'UTC')::date AS day FROM former_inbox_events) AS days;
INSERT INTO inbox_events (tenant_id, id, received_at, source_id, subject_key, service, type, subject, delivery_id, key_hash, sealed_request)
SELECT event.tenant_id, event.id, event.received_at, event.source_id,
       ('x' || encode(substr(sha256(uuid_send(event.source_id) || convert_to(event.subject, 'UTF8')), 1, 8), 'hex'))::bit(64)::bigint,
       event.service, event.type, event.subject, event.delivery_id, coalesce(key.key_hash, sha256(uuid_send(event.id))), event.sealed_body
FROM former_inbox_events AS event
LEFT JOIN inbox_keys AS key ON key.tenant_id = event.tenant_id AND key.event_id = event.id;
INSERT INTO inbox_pending (seq, subject_key, received_at, tenant_id, event_id, bytes, lane)
SELECT pending.position, event.subject_key, event.received_at, event.tenant_id, event.id, length(event.sealed_request), event.subject_key & 15
FROM former_inbox_pending AS pending
JOIN inbox_events AS event ON event.tenant_id = pending.tenant_id AND event.id = pending.event_id
WHERE pending.state = 'ready';
INSERT INTO inbox_failures (tenant_id, event_id, received_at, subject_key, seq, bytes, lane, state, attempts, run_at, cause, last_error, updated_at)
SELECT event.tenant_id, event.id, event.received_at, event.subject_key, pending.position, length(event.sealed_request), event.subject_key & 15,
       'dead', pending.attempts, pending.run_at, 'poison', pending.last_error, pending.run_at
FROM former_inbox_pending AS pending
JOIN inbox_events AS event ON event.tenant_id = pending.tenant_id AND event.id = pending.event_id
WHERE pending.state = 'dead';
SELECT setval(pg_get_serial_sequence('inbox_pending', 'seq'), (SELECT coalesce(max(position), 0) + 1 FROM former_inbox_pending));
ALTER TABLE inbox_failures FORCE ROW LEVEL SECURITY;
ALTER TABLE inbox_pending FORCE ROW LEVEL SECURITY;
ALTER TABLE inbox_events FORCE ROW LEVEL SECURITY;
ALTER TABLE inbox_keys FORCE ROW LEVEL SECURITY;
DROP TABLE former_inbox_pending;
DROP TABLE former_inbox_events;
