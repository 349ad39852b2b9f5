-- Roles flow downward: which account of a tool is whose, what we have made there, and the plans with their steps.

-- Whose an account of a tool is. A person isn't a tenant's: these are the suite's.
CREATE TABLE sync_links (
    tenant_id uuid NOT NULL,
    tool text NOT NULL CHECK (tool ~ '^[a-z0-9][a-z0-9-]{0,39}$'),
    person_id uuid NOT NULL,
    account_id text NOT NULL CHECK (length(account_id) BETWEEN 1 AND 255),
    evidence text NOT NULL CHECK (evidence IN ('created', 'verified_mail', 'administrator')),
    linked_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, tool, person_id),
    UNIQUE (tenant_id, tool, account_id)
);
SELECT protect_tenant_table('sync_links', 'worker', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']);
SELECT protect_tenant_table('sync_links', 'app', ARRAY['SELECT']);

-- What somebody has in a tool because we have made it, as we have made it. It is the tenant's whose the place in the tool is.
CREATE TABLE sync_grants (
    tenant_id uuid NOT NULL,
    tool text NOT NULL CHECK (tool ~ '^[a-z0-9][a-z0-9-]{0,39}$'),
    account_id text NOT NULL CHECK (length(account_id) BETWEEN 1 AND 255),
    scope text NOT NULL CHECK (length(scope) BETWEEN 1 AND 1024),
    person_id uuid NOT NULL,
    level integer NOT NULL CHECK (level BETWEEN 0 AND 65535),
    plan_id uuid NOT NULL,
    granted_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, tool, account_id, scope)
);
CREATE INDEX sync_grants_person ON sync_grants (tenant_id, person_id);
SELECT protect_tenant_table('sync_grants', 'app', ARRAY['SELECT']);
-- A plan is made of what we have made for all tenants.
SELECT open_to_system('sync_grants', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']);

-- The plans that were begun; the suite's.
CREATE TABLE sync_plans (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    tool text NOT NULL CHECK (tool ~ '^[a-z0-9][a-z0-9-]{0,39}$'),
    -- SHA-256 of the content's canonical form, in hexadecimal.
    digest text NOT NULL CHECK (digest ~ '^[0-9a-f]{64}$'),
    content jsonb NOT NULL CHECK (jsonb_typeof(content) = 'object'),
    begun_at timestamptz NOT NULL,
    -- None where it was cut off.
    ended_at timestamptz CHECK (ended_at >= begun_at),
    -- How many steps ended how.
    outcome jsonb CHECK (jsonb_typeof(outcome) = 'object'),
    PRIMARY KEY (tenant_id, id),
    CHECK ((ended_at IS NULL) = (outcome IS NULL))
);
CREATE INDEX sync_plans_recent ON sync_plans (tenant_id, tool, begun_at DESC);
SELECT protect_tenant_table('sync_plans', 'worker', ARRAY['SELECT', 'INSERT', 'UPDATE']);
SELECT protect_tenant_table('sync_plans', 'app', ARRAY['SELECT']);

-- A plan's way: each step before it is taken, and how it ended. It is the tenant's whose the place in the tool is, else the suite's.
CREATE TABLE sync_steps (
    tenant_id uuid NOT NULL,
    plan_id uuid NOT NULL,
    place integer NOT NULL CHECK (place >= 0),
    step jsonb NOT NULL CHECK (jsonb_typeof(step) = 'object'),
    begun_at timestamptz NOT NULL,
    ended_at timestamptz CHECK (ended_at >= begun_at),
    ended text CHECK (ended IN ('done', 'already_so', 'failed', 'skipped')),
    error text,
    PRIMARY KEY (tenant_id, plan_id, place),
    CHECK ((ended_at IS NULL) = (ended IS NULL))
);
SELECT protect_tenant_table('sync_steps', 'worker', ARRAY['SELECT', 'INSERT', 'UPDATE']);
SELECT protect_tenant_table('sync_steps', 'app', ARRAY['SELECT']);
