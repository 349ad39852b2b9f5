-- One page of a tenant's approvals, newest first, in one round trip. It runs with the rights of who calls it, under row-level
-- security, for which it sets the actor and the tenants that it may read until the statement ends.
CREATE FUNCTION approvals_page(
    actor uuid, readable uuid[], of_tenant uuid, before uuid, of_status text, of_priority text, most bigint
)
    RETURNS TABLE (
        id uuid, tenant_id uuid, title text, description text, status text, requested_by uuid, approved_by uuid, priority text,
        comment text, metadata jsonb, source_service text, source_account text, source_conversation text, source_message text,
        source_link text, conversation_id uuid, consultation_requested boolean, expires_at timestamptz, version bigint,
        created_at timestamptz, updated_at timestamptz, decided_at timestamptz
    )
    LANGUAGE plpgsql VOLATILE
    AS $$
#variable_conflict use_column
BEGIN
    PERFORM set_config('app.actor_id', actor::text, true), set_config('app.tenant_id', '', true),
            set_config('app.tenant_ids', readable::text, true);
    -- Two statements, so that each has its index.
    IF of_status IS NULL THEN
        RETURN QUERY
            SELECT id, tenant_id, title, description, status, requested_by, approved_by, priority, comment, metadata, source_service,
                   source_account, source_conversation, source_message, source_link, conversation_id, consultation_requested,
                   expires_at, version, created_at, updated_at, decided_at
            FROM approvals
            WHERE tenant_id = of_tenant AND id < before AND (of_priority IS NULL OR priority = of_priority)
            ORDER BY id DESC LIMIT most;
    ELSE
        RETURN QUERY
            SELECT id, tenant_id, title, description, status, requested_by, approved_by, priority, comment, metadata, source_service,
                   source_account, source_conversation, source_message, source_link, conversation_id, consultation_requested,
                   expires_at, version, created_at, updated_at, decided_at
            FROM approvals
            WHERE tenant_id = of_tenant AND id < before AND (of_priority IS NULL OR priority = of_priority) AND status = of_status
            ORDER BY id DESC LIMIT most;
    END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION approvals_page FROM PUBLIC;
DO $$
BEGIN
    EXECUTE format('GRANT EXECUTE ON FUNCTION approvals_page TO %I', chancery_role('app'));
END
$$;
