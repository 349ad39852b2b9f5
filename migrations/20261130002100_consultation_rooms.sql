-- How long a consultation is to be; and when its room was opened and closed last, as Jitsi's server tells.
ALTER TABLE consultations
    ADD COLUMN duration_minutes integer NOT NULL DEFAULT 60 CHECK (duration_minutes BETWEEN 5 AND 1440),
    ADD COLUMN room_opened_at timestamptz,
    ADD COLUMN room_closed_at timestamptz;

-- What Jitsi's server tells is written by nobody in particular. The boundary for this verb is there already.
DO $$
DECLARE
    worker name := chancery_role('worker');
    of_the_tenant text := $policy$tenant_id = (SELECT nullif(current_setting('app.tenant_id', true), '')::uuid)$policy$;
BEGIN
    EXECUTE format('GRANT UPDATE ON consultations TO %I', worker);
    EXECUTE format(
        'CREATE POLICY worker_update ON consultations AS PERMISSIVE FOR UPDATE TO %I USING (%s) WITH CHECK (%s)',
        worker, of_the_tenant, of_the_tenant
    );
END
$$;

-- Jitsi's server knows rooms and no tenants: whose a room is. The system reads this, and nothing else of consultations.
CREATE TABLE consultation_rooms (
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    jitsi_room text NOT NULL CHECK (jitsi_room ~ '^[a-z0-9-]{16,64}$'),
    consultation_id uuid NOT NULL,
    PRIMARY KEY (tenant_id, jitsi_room),
    CONSTRAINT consultation_rooms_consultation FOREIGN KEY (tenant_id, consultation_id) REFERENCES consultations (tenant_id, id)
);
CREATE INDEX consultation_rooms_by_name ON consultation_rooms (jitsi_room);
ALTER TABLE consultations NO FORCE ROW LEVEL SECURITY;
INSERT INTO consultation_rooms (tenant_id, jitsi_room, consultation_id) SELECT tenant_id, jitsi_room, id FROM consultations;
ALTER TABLE consultations FORCE ROW LEVEL SECURITY;
SELECT protect_tenant_table('consultation_rooms', 'app', ARRAY['SELECT', 'INSERT']);
SELECT open_to_system('consultation_rooms', ARRAY['SELECT']);
