-- How far what a tool tells only once has been compared with what the tool has.
CREATE TABLE inbox_cursors (
    tenant_id uuid NOT NULL,
    source_id uuid NOT NULL,
    -- Everything that has happened before was looked at.
    reached_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, source_id),
    FOREIGN KEY (tenant_id, source_id) REFERENCES webhook_sources (tenant_id, id)
);
SELECT protect_tenant_table('inbox_cursors', 'worker', ARRAY['SELECT', 'INSERT', 'UPDATE']);
SELECT protect_tenant_table('inbox_cursors', 'app', ARRAY['SELECT']);
