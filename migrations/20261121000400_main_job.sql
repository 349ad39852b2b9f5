-- The slices of the main job: where messages come in, conversations, approvals, consultations.

CREATE TABLE webhook_sources (
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    id uuid NOT NULL,
    service text NOT NULL CHECK (service IN ('chatwoot', 'matrix')),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    -- The account in the tool that this source speaks for (Chatwoot's account id, Matrix's application service id).
    account text NOT NULL CHECK (length(account) BETWEEN 1 AND 200),
    -- A JSON list of secrets, sealed with the master key.
    sealed_secrets bytea NOT NULL,
    active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT webhook_sources_account UNIQUE (tenant_id, service, account)
);
-- The URL of a source names it alone: its tenant is found by it.
CREATE UNIQUE INDEX webhook_sources_id ON webhook_sources (id);
SELECT protect_tenant_table('webhook_sources', 'app', ARRAY['SELECT']);
SELECT open_to_system('webhook_sources', ARRAY['SELECT', 'INSERT', 'UPDATE']);

-- What was received, verified and answered with 200: raw, and never changed.
CREATE TABLE inbox_events (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    source_id uuid NOT NULL,
    service text NOT NULL,
    -- The tool's own name for it (message_created).
    type text NOT NULL,
    -- What it is about (conversation/26): events of one subject are processed in order.
    subject text NOT NULL,
    delivery_id text,
    -- The raw bytes, sealed with the master key: tools put live credentials into what they send.
    sealed_body bytea NOT NULL,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
SELECT open_to_system('inbox_events', ARRAY['SELECT', 'INSERT']);

-- What has been received already.
CREATE TABLE inbox_keys (
    tenant_id uuid NOT NULL,
    source_id uuid NOT NULL,
    key_hash bytea NOT NULL CHECK (length(key_hash) = 32),
    event_id uuid NOT NULL,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, source_id, key_hash)
);
SELECT open_to_system('inbox_keys', ARRAY['SELECT', 'INSERT', 'DELETE']);

-- What is still to be processed: narrow, and deleted in the transaction of the effect.
CREATE TABLE inbox_pending (
    tenant_id uuid NOT NULL,
    event_id uuid NOT NULL,
    -- The order of arrival.
    position bigint GENERATED ALWAYS AS IDENTITY,
    source_id uuid NOT NULL,
    subject text NOT NULL,
    state text NOT NULL DEFAULT 'ready' CHECK (state IN ('ready', 'dead')),
    attempts integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    run_at timestamptz NOT NULL,
    fence bigint NOT NULL DEFAULT 0,
    lease_until timestamptz,
    last_error text,
    PRIMARY KEY (tenant_id, event_id),
    FOREIGN KEY (tenant_id, event_id) REFERENCES inbox_events (tenant_id, id)
);
CREATE INDEX inbox_pending_ready ON inbox_pending (position) WHERE state = 'ready';
CREATE INDEX inbox_pending_subject ON inbox_pending (source_id, subject, position);
SELECT open_to_system('inbox_pending', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']);

-- A mirror of what the webhooks told of a conversation, for showing and for escalating; the truth is in the tool.
CREATE TABLE conversations (
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    id uuid NOT NULL,
    source_id uuid NOT NULL,
    service text NOT NULL,
    account text NOT NULL,
    -- The number that people see in the tool.
    display_id bigint NOT NULL,
    inbox_id bigint,
    inbox_name text,
    contact_name text,
    status text NOT NULL,
    labels text[] NOT NULL DEFAULT '{}',
    last_message text,
    last_message_by text,
    last_message_at timestamptz,
    -- The tool's own time of its last change: an older webhook that comes late doesn't overwrite a newer one.
    remote_updated_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT conversations_display_id UNIQUE (tenant_id, source_id, display_id),
    FOREIGN KEY (tenant_id, source_id) REFERENCES webhook_sources (tenant_id, id)
);
CREATE INDEX conversations_recent ON conversations (tenant_id, remote_updated_at DESC, id DESC);
SELECT protect_tenant_table('conversations', 'app', ARRAY['SELECT']);
SELECT protect_tenant_table('conversations', 'worker', ARRAY['SELECT', 'INSERT', 'UPDATE']);

CREATE TABLE approvals (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    title text NOT NULL CHECK (length(title) BETWEEN 1 AND 200),
    description text NOT NULL DEFAULT '' CHECK (length(description) <= 10000),
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'approved', 'rejected', 'cancelled', 'expired')),
    priority text NOT NULL CHECK (priority IN ('low', 'medium', 'high')),
    requested_by uuid NOT NULL,
    -- Who decided.
    approved_by uuid,
    comment text CHECK (length(comment) <= 2000),
    metadata jsonb NOT NULL DEFAULT '{}',
    -- Where it came from.
    source_service text,
    source_account text,
    source_conversation text,
    source_message text,
    source_link text,
    conversation_id uuid,
    consultation_requested boolean NOT NULL DEFAULT false,
    expires_at timestamptz,
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    decided_at timestamptz,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, conversation_id) REFERENCES conversations (tenant_id, id),
    -- Who requested may not decide, whatever the code above says.
    CONSTRAINT approvals_never_ones_own CHECK (approved_by IS DISTINCT FROM requested_by),
    CONSTRAINT approvals_decided_by_somebody CHECK ((status IN ('approved', 'rejected')) = (approved_by IS NOT NULL)),
    CONSTRAINT approvals_decided_at CHECK ((status = 'pending') = (decided_at IS NULL))
);
CREATE INDEX approvals_status ON approvals (tenant_id, status, id);
CREATE INDEX approvals_conversation ON approvals (tenant_id, conversation_id, id) WHERE conversation_id IS NOT NULL;
-- One pending escalation of a conversation at a time.
CREATE UNIQUE INDEX approvals_one_pending ON approvals (tenant_id, source_service, source_account, source_conversation)
    NULLS NOT DISTINCT WHERE status = 'pending' AND source_conversation IS NOT NULL;
SELECT protect_tenant_table('approvals', 'app', ARRAY['SELECT', 'INSERT', 'UPDATE']);
SELECT protect_tenant_table('approvals', 'worker', ARRAY['SELECT', 'UPDATE']);

CREATE TABLE consultations (
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    id uuid NOT NULL,
    title text NOT NULL CHECK (length(title) BETWEEN 1 AND 200),
    jitsi_room text NOT NULL CHECK (jitsi_room ~ '^[a-z0-9-]{16,64}$'),
    status text NOT NULL DEFAULT 'scheduled' CHECK (status IN ('scheduled', 'active', 'ended', 'cancelled')),
    host_id uuid NOT NULL,
    participant_ids uuid[] NOT NULL DEFAULT '{}',
    approval_id uuid,
    scheduled_at timestamptz,
    started_at timestamptz,
    ended_at timestamptz,
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT consultations_room UNIQUE (tenant_id, jitsi_room),
    FOREIGN KEY (tenant_id, approval_id) REFERENCES approvals (tenant_id, id),
    CONSTRAINT consultations_started CHECK (status NOT IN ('active') OR started_at IS NOT NULL),
    CONSTRAINT consultations_ended CHECK ((status = 'ended') = (ended_at IS NOT NULL))
);
CREATE INDEX consultations_approval ON consultations (tenant_id, approval_id) WHERE approval_id IS NOT NULL;
SELECT protect_tenant_table('consultations', 'app', ARRAY['SELECT', 'INSERT', 'UPDATE']);
SELECT protect_tenant_table('consultations', 'worker', ARRAY['SELECT']);
