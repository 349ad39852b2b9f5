-- The recipe for row-level security, used by every migration that makes a table. migrations/README.md explains it.
--
-- Two logins do the server's work: *app* for what a person or a machine asked for, *worker* for what nobody asked for in
-- particular. Their names come from the settings chancery.app_role and chancery.worker_role, which the migrator sets:
-- role names are unique in the whole cluster, so they carry the database's name.

REVOKE ALL ON SCHEMA public FROM PUBLIC;

CREATE FUNCTION chancery_role(kind text) RETURNS name
    LANGUAGE sql STABLE
    AS $$ SELECT current_setting('chancery.' || kind || '_role')::name $$;

DO $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA public TO %I, %I', chancery_role('app'), chancery_role('worker'));
END
$$;

-- Turns row-level security on, also for the owner, and grants `verbs` to `role` inside the tenant that the transaction
-- has set. Permissive policies admit; the restrictive one makes sure that no later policy can widen them.
CREATE FUNCTION protect_tenant_table(relation regclass, kind text, verbs text[], tenant_column name DEFAULT 'tenant_id') RETURNS void
    LANGUAGE plpgsql
    AS $function$
DECLARE
    role_name name := chancery_role(kind);
    current_tenant text := $$(SELECT nullif(current_setting('app.tenant_id', true), '')::uuid)$$;
    -- One list, the transaction's tenant among them: an OR of the two would keep the planner from reading an index in order.
    readable_tenants text := $$((SELECT array_append(nullif(current_setting('app.tenant_ids', true), '')::uuid[], nullif(current_setting('app.tenant_id', true), '')::uuid))::uuid[])$$;
    writable text := format('%I = %s', tenant_column, current_tenant);
    readable text := format('%I = ANY %s', tenant_column, readable_tenants);
    verb text;
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', relation);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', relation);
    FOREACH verb IN ARRAY verbs LOOP
        EXECUTE format('GRANT %s ON %s TO %I', verb, relation, role_name);
        EXECUTE format(
            'CREATE POLICY %I ON %s AS PERMISSIVE FOR %s TO %I %s',
            kind || '_' || lower(verb), relation, verb, role_name,
            CASE verb
                WHEN 'SELECT' THEN format('USING (%s)', readable)
                WHEN 'INSERT' THEN format('WITH CHECK (%s)', writable)
                WHEN 'UPDATE' THEN format('USING (%s) WITH CHECK (%s)', writable, writable)
                WHEN 'DELETE' THEN format('USING (%s)', writable)
            END
        );
    END LOOP;
    -- One for each verb: what may be read may not therefore be changed.
    FOREACH verb IN ARRAY ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'] LOOP
        EXECUTE format(
            'CREATE POLICY %I ON %s AS RESTRICTIVE FOR %s TO %I %s',
            kind || '_' || lower(verb) || '_boundary', relation, verb, role_name,
            CASE verb
                WHEN 'SELECT' THEN format('USING (%s)', readable)
                WHEN 'INSERT' THEN format('WITH CHECK (%s)', writable)
                WHEN 'UPDATE' THEN format('USING (%s) WITH CHECK (%s)', writable, writable)
                WHEN 'DELETE' THEN format('USING (%s)', writable)
            END
        );
    END LOOP;
END
$function$;

-- The same for the few tables that the worker reaches without a tenant: what comes in before its tenant is known, the
-- queue, and the mirror of Keycloak.
CREATE FUNCTION open_to_system(relation regclass, verbs text[]) RETURNS void
    LANGUAGE plpgsql
    AS $function$
DECLARE
    role_name name := chancery_role('worker');
    verb text;
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', relation);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', relation);
    FOREACH verb IN ARRAY verbs LOOP
        EXECUTE format('GRANT %s ON %s TO %I', verb, relation, role_name);
        EXECUTE format(
            'CREATE POLICY %I ON %s AS PERMISSIVE FOR %s TO %I %s',
            'system_' || lower(verb), relation, verb, role_name,
            CASE verb
                WHEN 'INSERT' THEN 'WITH CHECK (true)'
                WHEN 'UPDATE' THEN 'USING (true) WITH CHECK (true)'
                ELSE 'USING (true)'
            END
        );
    END LOOP;
END
$function$;

-- Functions may be executed by everyone unless told otherwise; these are the owner's.
REVOKE EXECUTE ON FUNCTION chancery_role(text) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION protect_tenant_table(regclass, text, text[], name) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION open_to_system(regclass, text[]) FROM PUBLIC;
