-- no-transaction
-- What failed for good, by when: looked for every minute, across tenants.
CREATE INDEX CONCURRENTLY jobs_dead ON jobs (finished_at) WHERE state = 'dead';
