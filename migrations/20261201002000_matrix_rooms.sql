-- The rooms that a tenant has in Matrix. They are found again without this, by alias or mark; but what comes from a homeserver
-- names rooms and no tenants.
CREATE TABLE matrix_rooms (
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    purpose text NOT NULL CHECK (purpose IN ('space', 'approvals')),
    room_id text NOT NULL CHECK (length(room_id) BETWEEN 1 AND 255),
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, purpose)
);
CREATE INDEX matrix_rooms_by_id ON matrix_rooms (room_id);
SELECT open_to_system('matrix_rooms', ARRAY['SELECT', 'INSERT', 'UPDATE']);

-- By which notice an approval was told of in a room: that one is changed when the approval is.
CREATE TABLE approval_notices (
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    approval_id uuid NOT NULL,
    room_id text NOT NULL CHECK (length(room_id) BETWEEN 1 AND 255),
    event_id text NOT NULL CHECK (length(event_id) BETWEEN 1 AND 255),
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, approval_id, room_id),
    FOREIGN KEY (tenant_id, approval_id) REFERENCES approvals (tenant_id, id)
);
SELECT protect_tenant_table('approval_notices', 'worker', ARRAY['SELECT', 'INSERT', 'UPDATE']);
