-- Whose the inboxes of a suite's source are: several tenants in one account of Chatwoot, or the account one tenant's.

CREATE TABLE webhook_source_mappings (
    -- The source's, which is the suite's.
    tenant_id uuid NOT NULL,
    source_id uuid NOT NULL,
    -- The inbox in the account; 0 for all that have no mapping of their own.
    inbox_id bigint NOT NULL CHECK (inbox_id >= 0),
    -- Whose its conversations are.
    mapped_tenant_id uuid NOT NULL CHECK (mapped_tenant_id <> tenant_id),
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, source_id, inbox_id),
    FOREIGN KEY (tenant_id, source_id) REFERENCES webhook_sources (tenant_id, id)
);
SELECT protect_tenant_table('webhook_source_mappings', 'app', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']);
-- Whose an event is has to be known before it is stored.
SELECT open_to_system('webhook_source_mappings', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']);

-- A conversation may have been told of by a source of the suite.
ALTER TABLE conversations DROP CONSTRAINT conversations_tenant_id_source_id_fkey;
