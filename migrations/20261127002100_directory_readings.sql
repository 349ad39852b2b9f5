-- Readings of Keycloak are numbered, so that an older one never overwrites what a newer one found: a number is drawn before
-- a reading begins, and another when something is written. What was written after a reading had begun may be newer than what
-- that reading found; it has to read again.
CREATE SEQUENCE directory_readings;
DO $$
BEGIN
    EXECUTE format('GRANT USAGE ON SEQUENCE directory_readings TO %I', chancery_role('worker'));
END
$$;
ALTER TABLE tenants ADD COLUMN write_number bigint NOT NULL DEFAULT 0;
ALTER TABLE principals ADD COLUMN write_number bigint NOT NULL DEFAULT 0;
