-- A tenant's own endpoints: where its events go as signed webhooks (Standard Webhooks 1.0.0), and what became of each.

CREATE TABLE webhook_endpoints (
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    id uuid NOT NULL,
    url text NOT NULL CHECK (length(url) BETWEEN 1 AND 2048),
    description text NOT NULL CHECK (length(description) <= 200),
    -- `approval.decided`, `approval.*`, `*`
    event_types text[] NOT NULL CHECK (cardinality(event_types) BETWEEN 1 AND 50),
    state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'disabled')),
    disabled_because text CHECK (disabled_because IN ('by_hand', 'failing', 'gone')),
    disabled_at timestamptz,
    -- The entity tag.
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT webhook_endpoints_disabled_because CHECK ((state = 'disabled') = (disabled_because IS NOT NULL)),
    CONSTRAINT webhook_endpoints_disabled_has_time CHECK ((state = 'disabled') = (disabled_at IS NOT NULL))
);
SELECT protect_tenant_table('webhook_endpoints', 'app', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']);
SELECT protect_tenant_table('webhook_endpoints', 'worker', ARRAY['SELECT', 'UPDATE']);

-- What its deliveries are signed with: several while they are rotated.
CREATE TABLE webhook_endpoint_secrets (
    tenant_id uuid NOT NULL,
    endpoint_id uuid NOT NULL,
    id uuid NOT NULL,
    sealed bytea NOT NULL,
    created_at timestamptz NOT NULL,
    -- None for the current one.
    expires_at timestamptz,
    PRIMARY KEY (tenant_id, endpoint_id, id),
    FOREIGN KEY (tenant_id, endpoint_id) REFERENCES webhook_endpoints (tenant_id, id) ON DELETE CASCADE
);
SELECT protect_tenant_table('webhook_endpoint_secrets', 'app', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']);
SELECT protect_tenant_table('webhook_endpoint_secrets', 'worker', ARRAY['SELECT']);

-- Where an endpoint's deliveries stand. Whoever holds the lease is the only one that delivers to it.
CREATE TABLE webhook_endpoint_lanes (
    tenant_id uuid NOT NULL,
    endpoint_id uuid NOT NULL,
    -- The number of the last event of the tenant's log of which there are deliveries, where it was wanted.
    position bigint NOT NULL,
    -- When it is to be looked at again.
    due_at timestamptz NOT NULL,
    lease_until timestamptz,
    -- Goes up with each claim: who lost the lease finds another number.
    fence bigint NOT NULL DEFAULT 0,
    -- The endpoint asked to be left alone until then (Retry-After).
    not_before timestamptz,
    -- Since when nothing has succeeded; none while it does.
    failing_since timestamptz,
    succeeded_at timestamptz,
    trimmed_at timestamptz,
    -- Whether the endpoint is delivered to: what happens wakes only those lanes.
    active boolean NOT NULL DEFAULT true,
    PRIMARY KEY (tenant_id, endpoint_id),
    FOREIGN KEY (tenant_id, endpoint_id) REFERENCES webhook_endpoints (tenant_id, id) ON DELETE CASCADE
) WITH (fillfactor = 70);
CREATE INDEX webhook_endpoint_lanes_due ON webhook_endpoint_lanes (due_at);
SELECT protect_tenant_table('webhook_endpoint_lanes', 'app', ARRAY['SELECT', 'INSERT', 'UPDATE']);
SELECT open_to_system('webhook_endpoint_lanes', ARRAY['SELECT', 'UPDATE']);

-- One event for one endpoint. No foreign key to the endpoint: the deliveries of one that was removed go a few at a time.
CREATE TABLE webhook_deliveries (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    endpoint_id uuid NOT NULL,
    -- The event's number in the tenant's log; none for a test.
    sequence bigint,
    -- The header `webhook-id`: the same for each attempt.
    message_id text NOT NULL CHECK (length(message_id) BETWEEN 1 AND 100),
    event_type text NOT NULL CHECK (length(event_type) BETWEEN 1 AND 100),
    -- The same bytes for each attempt.
    body text NOT NULL,
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'failed')),
    -- How often it was begun to be sent.
    attempts integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    -- How often since it was made, or since somebody asked for it again.
    failures integer NOT NULL DEFAULT 0 CHECK (failures >= 0),
    next_attempt_at timestamptz,
    last_outcome text,
    last_status smallint,
    created_at timestamptz NOT NULL,
    finished_at timestamptz,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT webhook_deliveries_event UNIQUE (tenant_id, endpoint_id, sequence),
    CONSTRAINT webhook_deliveries_pending_is_due CHECK ((state = 'pending') = (next_attempt_at IS NOT NULL)),
    CONSTRAINT webhook_deliveries_finished_has_time CHECK ((state = 'pending') = (finished_at IS NULL))
);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (tenant_id, endpoint_id, next_attempt_at) WHERE state = 'pending';
CREATE INDEX webhook_deliveries_failed ON webhook_deliveries (tenant_id, endpoint_id, created_at) WHERE state = 'failed';
CREATE INDEX webhook_deliveries_list ON webhook_deliveries (tenant_id, endpoint_id, id);
SELECT protect_tenant_table('webhook_deliveries', 'app', ARRAY['SELECT', 'INSERT', 'UPDATE']);
SELECT protect_tenant_table('webhook_deliveries', 'worker', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']);

CREATE TABLE webhook_delivery_attempts (
    tenant_id uuid NOT NULL,
    delivery_id uuid NOT NULL,
    number integer NOT NULL CHECK (number > 0),
    started_at timestamptz NOT NULL,
    -- None while it goes on, and where the process stopped in the middle of it.
    outcome text,
    duration_ms integer CHECK (duration_ms >= 0),
    status smallint,
    PRIMARY KEY (tenant_id, delivery_id, number),
    FOREIGN KEY (tenant_id, delivery_id) REFERENCES webhook_deliveries (tenant_id, id) ON DELETE CASCADE
);
SELECT protect_tenant_table('webhook_delivery_attempts', 'app', ARRAY['SELECT']);
SELECT protect_tenant_table('webhook_delivery_attempts', 'worker', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']);
