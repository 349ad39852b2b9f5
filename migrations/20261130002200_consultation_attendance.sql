-- Who was in a consultation's room, as Jitsi's server tells: each time that somebody came in, once.
CREATE TABLE consultation_attendance (
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    consultation_id uuid NOT NULL,
    -- Their address in the room, another one each time that they come in.
    occupant text NOT NULL CHECK (length(occupant) BETWEEN 1 AND 500),
    -- None where their token was none of ours.
    user_id uuid,
    name text NOT NULL CHECK (length(name) <= 200),
    -- What was told first may be that they left.
    joined_at timestamptz,
    left_at timestamptz,
    PRIMARY KEY (tenant_id, consultation_id, occupant),
    FOREIGN KEY (tenant_id, consultation_id) REFERENCES consultations (tenant_id, id),
    CONSTRAINT consultation_attendance_time CHECK (joined_at IS NOT NULL OR left_at IS NOT NULL)
);
SELECT protect_tenant_table('consultation_attendance', 'app', ARRAY['SELECT']);
SELECT protect_tenant_table('consultation_attendance', 'worker', ARRAY['SELECT', 'INSERT', 'UPDATE']);
