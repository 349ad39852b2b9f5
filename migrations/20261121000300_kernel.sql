-- What every slice builds on: the audit trail, the event stream's log, the queue that is also the outbox, and the
-- answers kept for repeated requests.
--
-- No foreign key to tenants here: each insert would lock the tenant's row, and all of a tenant's commits would queue up
-- for it. The tenant of a row is proven by the policies instead.

-- Append-only: neither login may UPDATE or DELETE.
CREATE TABLE audit_logs (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    action text NOT NULL CHECK (length(action) BETWEEN 1 AND 100),
    resource text NOT NULL CHECK (length(resource) BETWEEN 1 AND 100),
    resource_id text NOT NULL CHECK (length(resource_id) BETWEEN 1 AND 200),
    -- Who did it; none for what happened by itself (an expiry).
    user_id uuid,
    old_values jsonb,
    new_values jsonb,
    metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX audit_logs_resource ON audit_logs (tenant_id, resource, resource_id, id);
CREATE INDEX audit_logs_user ON audit_logs (tenant_id, user_id, id);
CREATE INDEX audit_logs_action ON audit_logs (tenant_id, action, id);
SELECT protect_tenant_table('audit_logs', 'app', ARRAY['SELECT', 'INSERT']);
SELECT protect_tenant_table('audit_logs', 'worker', ARRAY['SELECT', 'INSERT']);

-- The number of a tenant's newest event. Its row lock is taken as the last thing in a transaction, so that numbers
-- follow commit order and a reader that has seen 41 and 43 knows that there is no 42 to come.
CREATE TABLE event_streams (
    tenant_id uuid PRIMARY KEY,
    last_sequence bigint NOT NULL
) WITH (fillfactor = 50);
SELECT protect_tenant_table('event_streams', 'app', ARRAY['SELECT', 'INSERT', 'UPDATE']);
SELECT protect_tenant_table('event_streams', 'worker', ARRAY['SELECT', 'INSERT', 'UPDATE']);

CREATE TABLE events (
    tenant_id uuid NOT NULL,
    sequence bigint NOT NULL,
    type text NOT NULL,
    -- Who may not do this does not see the event.
    permission text NOT NULL,
    resource_id uuid NOT NULL,
    data jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, sequence)
);
SELECT protect_tenant_table('events', 'app', ARRAY['SELECT', 'INSERT']);
SELECT protect_tenant_table('events', 'worker', ARRAY['SELECT', 'INSERT']);

-- The queue and the outbox in one: a job is enqueued in the transaction of what it follows from.
CREATE TABLE jobs (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    kind text NOT NULL,
    -- What the job is about: enqueueing the same again does nothing, and the tool that is called can tell a repeat.
    key text NOT NULL,
    payload jsonb NOT NULL,
    state text NOT NULL DEFAULT 'ready' CHECK (state IN ('ready', 'running', 'done', 'dead', 'cancelled')),
    run_at timestamptz NOT NULL,
    attempts integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    -- Goes up with each claim: a worker that lost its lease finds another number and may not finish the job.
    fence bigint NOT NULL DEFAULT 0,
    lease_until timestamptz,
    last_error text,
    created_at timestamptz NOT NULL,
    finished_at timestamptz,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT jobs_key UNIQUE (tenant_id, kind, key),
    CONSTRAINT jobs_running_has_lease CHECK ((state = 'running') = (lease_until IS NOT NULL)),
    CONSTRAINT jobs_finished_has_time CHECK ((state IN ('done', 'dead', 'cancelled')) = (finished_at IS NOT NULL))
);
CREATE INDEX jobs_ready ON jobs (run_at) WHERE state = 'ready';
CREATE INDEX jobs_leases ON jobs (lease_until) WHERE state = 'running';
CREATE INDEX jobs_finished ON jobs (finished_at) WHERE state IN ('done', 'cancelled');
SELECT protect_tenant_table('jobs', 'app', ARRAY['SELECT', 'INSERT', 'UPDATE']);
SELECT open_to_system('jobs', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']);

-- The answer to a request that carried an Idempotency-Key, kept for 24 hours. It belongs to who sent it, not to a tenant.
CREATE TABLE idempotency_keys (
    actor_id uuid NOT NULL,
    method text NOT NULL,
    route text NOT NULL,
    key text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    -- SHA-256 of what was asked: the path and the body.
    fingerprint bytea NOT NULL CHECK (length(fingerprint) = 32),
    status smallint NOT NULL CHECK (status BETWEEN 200 AND 299),
    headers jsonb NOT NULL,
    body text NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (actor_id, method, route, key)
);
CREATE INDEX idempotency_keys_created ON idempotency_keys (created_at);
DO $$
DECLARE
    app name := chancery_role('app');
    own text := $p$actor_id = (SELECT nullif(current_setting('app.actor_id', true), '')::uuid)$p$;
BEGIN
    EXECUTE format('GRANT SELECT, INSERT, UPDATE ON idempotency_keys TO %I', app);
    EXECUTE format('CREATE POLICY app_select ON idempotency_keys AS PERMISSIVE FOR SELECT TO %I USING (%s)', app, own);
    EXECUTE format('CREATE POLICY app_insert ON idempotency_keys AS PERMISSIVE FOR INSERT TO %I WITH CHECK (%s)', app, own);
    EXECUTE format('CREATE POLICY app_update ON idempotency_keys AS PERMISSIVE FOR UPDATE TO %I USING (%s) WITH CHECK (%s)', app, own, own);
    EXECUTE format('CREATE POLICY app_actor_boundary ON idempotency_keys AS RESTRICTIVE FOR ALL TO %I USING (%s) WITH CHECK (%s)', app, own, own);
END
$$;
-- Takes the lock of a request and then looks for its answer: in that order, each with a snapshot of its own, and in one
-- round trip. It runs with the rights of who calls it.
CREATE FUNCTION claim_idempotency_key(lock_id bigint, actor uuid, of_method text, of_route text, of_key text, since timestamptz)
    RETURNS TABLE (locked boolean, fingerprint bytea, status smallint, headers jsonb, body text)
    LANGUAGE plpgsql VOLATILE
    AS $$
BEGIN
    -- A request that was refused or answered a moment ago gives its lock back a little later than its answer.
    FOR attempt IN 1..4 LOOP
        locked := pg_try_advisory_xact_lock(lock_id);
        SELECT stored.fingerprint, stored.status, stored.headers, stored.body
            INTO fingerprint, status, headers, body
            FROM idempotency_keys AS stored
            WHERE stored.actor_id = actor AND stored.method = of_method AND stored.route = of_route AND stored.key = of_key
              AND stored.created_at > since;
        EXIT WHEN locked OR fingerprint IS NOT NULL;
        PERFORM pg_sleep(0.02);
    END LOOP;
    RETURN NEXT;
END
$$;
REVOKE EXECUTE ON FUNCTION claim_idempotency_key(bigint, uuid, text, text, text, timestamptz) FROM PUBLIC;
DO $$
BEGIN
    EXECUTE format('GRANT EXECUTE ON FUNCTION claim_idempotency_key(bigint, uuid, text, text, text, timestamptz) TO %I', chancery_role('app'));
END
$$;
SELECT open_to_system('idempotency_keys', ARRAY['SELECT', 'DELETE']);
