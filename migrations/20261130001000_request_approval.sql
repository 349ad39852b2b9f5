-- The same function with less to do where nothing stands in the way of a request, which is nearly always. Each policy costs a
-- statement that begins: an insertion that may meet a conflict is held against those for reading and changing, too, so that one
-- that can't meet any is a plain insertion.
CREATE OR REPLACE FUNCTION request_approval(
    actor uuid, tenant uuid, at timestamptz,
    -- The approval.
    approval_id uuid, of_title text, of_description text, of_priority text, of_metadata jsonb, of_service text, of_account text,
    of_conversation text, of_message text, of_link text, of_conversation_id uuid, of_consultation boolean, of_expires_at timestamptz,
    -- What follows from it: the trail's entry, the event, the jobs.
    entry_id uuid, entry_values jsonb, event_data jsonb,
    job_ids uuid[], job_kinds text[], job_keys text[], job_payloads jsonb[], job_times timestamptz[],
    of_traceparent text, of_tracestate text,
    -- The request's key, if it has one, and the answer that is stored under it.
    lock_id bigint, of_method text, of_route text, of_key text, since timestamptz, of_fingerprint bytea,
    answer_status smallint, answer_headers jsonb, answer_body text
)
    RETURNS TABLE (made boolean, locked boolean, fingerprint bytea, status smallint, headers jsonb, body text)
    LANGUAGE plpgsql VOLATILE
    AS $$
#variable_conflict use_column
DECLARE
    number bigint;
BEGIN
    PERFORM set_config('app.actor_id', actor::text, true), set_config('app.tenant_id', tenant::text, true),
            set_config('app.tenant_ids', '{}', true);
    made := false;
    locked := true;
    IF of_key IS NOT NULL THEN
        locked := pg_try_advisory_xact_lock(lock_id);
        -- By a statement of its own, and so with a snapshot from after the lock. An answer past its time is in the way, too: it is
        -- the service that replaces it.
        IF NOT locked OR EXISTS (
            SELECT FROM idempotency_keys
            WHERE actor_id = actor AND method = of_method AND route = of_route AND key = of_key
        ) THEN
            SELECT claimed.locked, claimed.fingerprint, claimed.status, claimed.headers, claimed.body
                INTO locked, fingerprint, status, headers, body
                FROM claim_idempotency_key(lock_id, actor, of_method, of_route, of_key, since) AS claimed;
            RETURN NEXT;
            RETURN;
        END IF;
    END IF;

    IF of_conversation IS NULL THEN
        INSERT INTO approvals (tenant_id, id, title, description, priority, requested_by, metadata, source_service, source_account,
                               source_conversation, source_message, source_link, conversation_id, consultation_requested, expires_at,
                               created_at, updated_at)
            SELECT tenant, approval_id, of_title, of_description, of_priority, actor, of_metadata, of_service, of_account,
                   of_conversation, of_message, of_link, of_conversation_id, of_consultation, of_expires_at, at, at
            WHERE EXISTS (
                SELECT 1 FROM memberships
                WHERE memberships.tenant_id = tenant AND memberships.role IN ('approver', 'owner') AND memberships.user_id <> actor
                  AND (SELECT people.kind FROM people WHERE people.tenant_id = tenant AND people.user_id = memberships.user_id) = 'person'
            );
    ELSE
        INSERT INTO approvals (tenant_id, id, title, description, priority, requested_by, metadata, source_service, source_account,
                               source_conversation, source_message, source_link, conversation_id, consultation_requested, expires_at,
                               created_at, updated_at)
            SELECT tenant, approval_id, of_title, of_description, of_priority, actor, of_metadata, of_service, of_account,
                   of_conversation, of_message, of_link, of_conversation_id, of_consultation, of_expires_at, at, at
            WHERE EXISTS (
                SELECT 1 FROM memberships
                WHERE memberships.tenant_id = tenant AND memberships.role IN ('approver', 'owner') AND memberships.user_id <> actor
                  AND (SELECT people.kind FROM people WHERE people.tenant_id = tenant AND people.user_id = memberships.user_id) = 'person'
            )
            ON CONFLICT (tenant_id, source_service, source_account, source_conversation)
                WHERE status = 'pending' AND source_conversation IS NOT NULL DO NOTHING;
    END IF;
    IF NOT FOUND THEN
        RETURN NEXT;
        RETURN;
    END IF;
    INSERT INTO audit_logs (tenant_id, id, action, resource, resource_id, user_id, new_values, metadata, created_at)
        VALUES (tenant, entry_id, 'approval.requested', 'approval', approval_id::text, actor, entry_values, '{}', at);
    IF cardinality(job_ids) > 0 THEN
        INSERT INTO jobs (tenant_id, id, kind, key, payload, run_at, created_at, traceparent, tracestate)
            SELECT tenant, job.id, job.kind, job.key, job.payload, job.run_at, at, of_traceparent, of_tracestate
            FROM unnest(job_ids, job_kinds, job_keys, job_payloads, job_times) AS job (id, kind, key, payload, run_at)
            ON CONFLICT ON CONSTRAINT jobs_key DO NOTHING;
    END IF;
    IF of_key IS NOT NULL THEN
        INSERT INTO idempotency_keys (actor_id, method, route, key, fingerprint, status, headers, body, created_at)
            VALUES (actor, of_method, of_route, of_key, of_fingerprint, answer_status, answer_headers, answer_body, at);
    END IF;
    -- Last: from here on, the tenant's other appends wait for the commit.
    INSERT INTO event_streams (tenant_id, last_sequence) VALUES (tenant, 1)
        ON CONFLICT (tenant_id) DO UPDATE SET last_sequence = event_streams.last_sequence + 1
        RETURNING last_sequence INTO number;
    INSERT INTO events (tenant_id, sequence, type, permission, resource_id, data, created_at)
        VALUES (tenant, number, 'approval.created', 'approval.read', approval_id, event_data, at);
    made := true;
    RETURN NEXT;
END
$$;
