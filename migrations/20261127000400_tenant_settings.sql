-- What a tenant has decided for itself. One document a tenant, its sections typed in the code; a section that is missing has
-- its defaults, and one that an older version doesn't know survives that version's writes.
CREATE TABLE tenant_settings (
    tenant_id uuid PRIMARY KEY REFERENCES tenants (id),
    -- 0 until something is changed for the first time; the entity tag.
    version bigint NOT NULL CHECK (version >= 0),
    settings jsonb NOT NULL CHECK (jsonb_typeof(settings) = 'object'),
    updated_at timestamptz NOT NULL
);
SELECT protect_tenant_table('tenant_settings', 'app', ARRAY['SELECT', 'INSERT', 'UPDATE']);
SELECT protect_tenant_table('tenant_settings', 'worker', ARRAY['SELECT']);
