-- Modules of the sidebar besides those that are built in: a tenant's own, and the suite's for all tenants or for some.

CREATE TABLE modules (
    -- The suite's, for those that it gives to its tenants.
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    id uuid NOT NULL,
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 60),
    -- One of the shell's own: a picture from elsewhere would tell its server who looks at our pages.
    icon text NOT NULL CHECK (icon ~ '^[a-z][a-z-]{0,39}$'),
    url text NOT NULL CHECK (length(url) BETWEEN 1 AND 2048),
    opens text NOT NULL CHECK (opens IN ('tab', 'page')),
    -- Who sees it: empty for everybody in the tenant.
    roles text[] NOT NULL CHECK (cardinality(roles) <= 7),
    -- To whom the suite gives it: empty for all tenants.
    tenants uuid[] NOT NULL CHECK (cardinality(tenants) <= 100),
    -- The entity tag.
    version bigint NOT NULL DEFAULT 1 CHECK (version > 0),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT modules_only_the_suite_gives CHECK (cardinality(tenants) = 0 OR tenant_id = '00000000-0000-0000-0000-000000000000')
);
SELECT protect_tenant_table('modules', 'app', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']);

-- What the suite gives to somebody's tenant is read there, too, and by nobody else; writing stays the suite's.
DO $$
DECLARE
    readable text := $said$(SELECT array_append(nullif(current_setting('app.tenant_ids', true), '')::uuid[], nullif(current_setting('app.tenant_id', true), '')::uuid))::uuid[]$said$;
    admitted text := format(
        $said$tenant_id = ANY (%1$s)
        OR (tenant_id = '00000000-0000-0000-0000-000000000000' AND (tenants && %1$s
            OR (cardinality(tenants) = 0 AND cardinality(array_remove(%1$s, NULL)) > 0)))$said$,
        readable
    );
BEGIN
    EXECUTE format('ALTER POLICY app_select ON modules USING (%s)', admitted);
    EXECUTE format('ALTER POLICY app_select_boundary ON modules USING (%s)', admitted);
END
$$;
