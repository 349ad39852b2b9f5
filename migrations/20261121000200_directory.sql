-- The mirror of Keycloak: who has been seen, which tenants there are, and who has which role in them. Only the directory
-- writes here, from what Keycloak's admin API says; everything else reads.

-- A tenant's id is Keycloak's own: of the group for teams and organizations, of the user for the personal tenant.
CREATE TABLE tenants (
    id uuid PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('individual', 'team', 'organization')),
    path text NOT NULL CHECK (length(path) BETWEEN 1 AND 1024),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
-- Not unique: while a group is renamed and another takes its old path, both rows stand for a moment.
CREATE INDEX tenants_path ON tenants (path);
SELECT protect_tenant_table('tenants', 'app', ARRAY['SELECT'], 'id');
SELECT open_to_system('tenants', ARRAY['SELECT', 'INSERT', 'UPDATE']);

-- A person or a machine that has signed in or called, as last read from Keycloak.
CREATE TABLE principals (
    id uuid PRIMARY KEY,
    username text NOT NULL,
    name text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('person', 'service')),
    enabled boolean NOT NULL,
    platform_admin boolean NOT NULL,
    -- When the user was last read by itself; none where it is only known as a member of a group.
    seen_at timestamptz
);
SELECT open_to_system('principals', ARRAY['SELECT', 'INSERT', 'UPDATE']);

-- What a tenant may know of the people it has or had: rows stay when somebody leaves, so that old entries keep a name.
CREATE TABLE people (
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    user_id uuid NOT NULL,
    username text NOT NULL,
    name text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('person', 'service')),
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, user_id)
);
SELECT protect_tenant_table('people', 'app', ARRAY['SELECT']);
SELECT open_to_system('people', ARRAY['SELECT', 'INSERT', 'UPDATE']);

CREATE TABLE memberships (
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    user_id uuid NOT NULL,
    -- The Keycloak group that gives the role; the user's own id for the personal tenant.
    group_id uuid NOT NULL,
    role text NOT NULL CHECK (role IN ('member', 'viewer', 'agent', 'manager', 'approver', 'owner', 'auditor')),
    seen_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, user_id, group_id)
);
CREATE INDEX memberships_user ON memberships (user_id);
SELECT protect_tenant_table('memberships', 'app', ARRAY['SELECT']);
SELECT open_to_system('memberships', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']);
