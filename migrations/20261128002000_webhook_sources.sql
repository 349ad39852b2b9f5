-- Sources of webhooks of any service, verified by a scheme of their own, with several secrets that come and go, and sources
-- that belong to the suite instead of a tenant.

-- What belongs to the suite has a tenant, too, which no group of Keycloak stands for: the policies, the trail and the event log
-- treat it like any other. Nobody is a member; only who runs the suite enters it.
ALTER TABLE tenants DROP CONSTRAINT tenants_kind_check;
ALTER TABLE tenants ADD CONSTRAINT tenants_kind_check CHECK (kind IN ('individual', 'team', 'organization', 'suite'));
ALTER TABLE tenants ADD CONSTRAINT tenants_suite CHECK ((kind = 'suite') = (id = '00000000-0000-0000-0000-000000000000'));
ALTER TABLE tenants NO FORCE ROW LEVEL SECURITY;
INSERT INTO tenants (id, kind, path, name, created_at, updated_at)
VALUES ('00000000-0000-0000-0000-000000000000', 'suite', '/suite', 'Suite', now(), now());
ALTER TABLE tenants FORCE ROW LEVEL SECURITY;

ALTER TABLE webhook_sources
    DROP CONSTRAINT webhook_sources_service_check,
    DROP CONSTRAINT webhook_sources_account_check,
    DROP CONSTRAINT webhook_sources_account,
    ADD CONSTRAINT webhook_sources_service_check CHECK (service ~ '^[a-z0-9][a-z0-9-]{0,39}$'),
    -- Empty where the service has no accounts.
    ADD CONSTRAINT webhook_sources_account_check CHECK (length(account) <= 200),
    -- How its requests prove where they come from; typed in the code.
    ADD COLUMN scheme jsonb CHECK (jsonb_typeof(scheme) = 'object'),
    -- What was removed stays for what refers to it, without its secrets.
    ADD COLUMN state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'paused', 'removed')),
    -- At most so many requests in so many seconds, besides what holds for every source.
    ADD COLUMN limit_requests integer CHECK (limit_requests BETWEEN 1 AND 1000000),
    ADD COLUMN limit_seconds integer CHECK (limit_seconds BETWEEN 1 AND 86400),
    ADD CONSTRAINT webhook_sources_limit_check CHECK ((limit_requests IS NULL) = (limit_seconds IS NULL)),
    -- The entity tag.
    ADD COLUMN version bigint NOT NULL DEFAULT 1 CHECK (version > 0);

CREATE TABLE webhook_source_secrets (
    tenant_id uuid NOT NULL,
    source_id uuid NOT NULL,
    id uuid NOT NULL,
    -- A signature is verified with it, or it is the token that the sender's question shows.
    purpose text NOT NULL CHECK (purpose IN ('signature', 'challenge')),
    -- A JSON list of one secret (older ones: of several), sealed with the master key.
    sealed bytea NOT NULL,
    created_at timestamptz NOT NULL,
    valid_from timestamptz NOT NULL,
    valid_until timestamptz CHECK (valid_until >= valid_from),
    PRIMARY KEY (tenant_id, source_id, id),
    FOREIGN KEY (tenant_id, source_id) REFERENCES webhook_sources (tenant_id, id)
);

ALTER TABLE webhook_sources NO FORCE ROW LEVEL SECURITY;
UPDATE webhook_sources SET scheme = jsonb_build_object('type', service), state = CASE WHEN active THEN 'active' ELSE 'paused' END;
INSERT INTO webhook_source_secrets (tenant_id, source_id, id, purpose, sealed, created_at, valid_from)
SELECT tenant_id, id, gen_random_uuid(), 'signature', sealed_secrets, created_at, created_at FROM webhook_sources;
ALTER TABLE webhook_sources FORCE ROW LEVEL SECURITY;

ALTER TABLE webhook_sources
    ALTER COLUMN scheme SET NOT NULL,
    DROP COLUMN sealed_secrets,
    DROP COLUMN active;
-- One source for each account of a service, as long as it isn't removed.
CREATE UNIQUE INDEX webhook_sources_account ON webhook_sources (tenant_id, service, account)
    WHERE account <> '' AND state <> 'removed';
CREATE INDEX webhook_sources_recent ON webhook_sources (tenant_id, created_at DESC, id DESC);

-- People manage them now: the policies anew, with more verbs.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['app_select', 'app_select_boundary', 'app_insert_boundary', 'app_update_boundary', 'app_delete_boundary'] LOOP
        EXECUTE format('DROP POLICY %I ON webhook_sources', name);
    END LOOP;
END
$$;
SELECT protect_tenant_table('webhook_sources', 'app', ARRAY['SELECT', 'INSERT', 'UPDATE']);
SELECT protect_tenant_table('webhook_source_secrets', 'app', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']);
-- A webhook's source, and so its secrets, are found before its tenant is known.
SELECT open_to_system('webhook_source_secrets', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']);
