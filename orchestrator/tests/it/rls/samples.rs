//! A row of each table.

use std::collections::BTreeMap;

/// How a row of a table is made; `$1` is whose it is. A table without a sample fails the tests.
pub(super) fn samples() -> BTreeMap<&'static str, &'static str> {
    BTreeMap::from([
        (
            "approvals",
            "INSERT INTO approvals (tenant_id, id, title, priority, requested_by, created_at, updated_at)
             SELECT $1, CASE WHEN EXISTS (SELECT 1 FROM approvals WHERE id = $1) THEN gen_random_uuid() ELSE $1 END, 'A', 'low', gen_random_uuid(), now(), now()",
        ),
        (
            "approval_notices",
            "INSERT INTO approval_notices (tenant_id, approval_id, room_id, event_id, updated_at)
             VALUES ($1, $1, '!' || gen_random_uuid(), '$e', now())",
        ),
        (
            "matrix_rooms",
            "INSERT INTO matrix_rooms (tenant_id, purpose, room_id, updated_at)
             SELECT $1, CASE WHEN EXISTS (SELECT 1 FROM matrix_rooms WHERE tenant_id = $1) THEN 'space' ELSE 'approvals' END, '!r:h', now()",
        ),
        (
            "audit_logs",
            "INSERT INTO audit_logs (tenant_id, id, action, resource, resource_id, created_at) VALUES ($1, gen_random_uuid(), 'a', 'r', '1', now())",
        ),
        (
            "consultation_attendance",
            "INSERT INTO consultation_attendance (tenant_id, consultation_id, occupant, name, joined_at) VALUES ($1, $1, gen_random_uuid()::text, 'N', now())",
        ),
        (
            "consultation_rooms",
            "INSERT INTO consultation_rooms (tenant_id, jitsi_room, consultation_id) VALUES ($1, 'c-' || replace(gen_random_uuid()::text, '-', ''), $1)",
        ),
        (
            "consultations",
            "INSERT INTO consultations (tenant_id, id, title, jitsi_room, host_id, created_at, updated_at)
             SELECT $1, CASE WHEN EXISTS (SELECT 1 FROM consultations WHERE id = $1) THEN gen_random_uuid() ELSE $1 END, 'C', gen_random_uuid()::text, gen_random_uuid(), now(), now()",
        ),
        (
            "conversations",
            "INSERT INTO conversations (tenant_id, id, source_id, service, account, display_id, status, remote_updated_at, created_at, updated_at)
             VALUES ($1, gen_random_uuid(), $1, 'chatwoot', '1', (random() * 1e9)::bigint, 'open', now(), now(), now())",
        ),
        ("event_streams", "INSERT INTO event_streams (tenant_id, last_sequence) VALUES ($1, 1)"),
        (
            "events",
            "INSERT INTO events (tenant_id, sequence, type, permission, resource_id, data, created_at)
             VALUES ($1, (random() * 1e9)::bigint, 'e', 'tenant.read', gen_random_uuid(), '{}', now())",
        ),
        (
            "modules",
            "INSERT INTO modules (tenant_id, id, name, icon, url, opens, roles, tenants, created_at, updated_at) VALUES ($1, gen_random_uuid(), 'M', 'book', 'https://a.test/', 'tab', '{}', '{}', now(), now())",
        ),
        (
            "idempotency_keys",
            "INSERT INTO idempotency_keys (actor_id, method, route, key, fingerprint, status, headers, body, created_at)
             VALUES ($1, 'POST', '/', gen_random_uuid()::text, sha256(''), 201, '{}', '', now())",
        ),
        (
            "jobs",
            "INSERT INTO jobs (tenant_id, id, kind, key, payload, run_at, created_at)
             VALUES ($1, gen_random_uuid(), 'k', gen_random_uuid()::text, '{}', 'infinity', now())",
        ),
        (
            "memberships",
            "INSERT INTO memberships (tenant_id, user_id, group_id, role, seen_at) VALUES ($1, gen_random_uuid(), gen_random_uuid(), 'agent', now())",
        ),
        (
            "inbox_attempts",
            "INSERT INTO inbox_attempts (tenant_id, event_id, attempt, begun_at, ended_at, outcome, replay) VALUES ($1, gen_random_uuid(), 1, now(), now(), 'done', false)",
        ),
        (
            "inbox_events",
            "INSERT INTO inbox_events (tenant_id, id, received_at, source_id, subject_key, service, type, subject, key_hash, sealed_request)
             VALUES ($1, gen_random_uuid(), '2020-01-01', gen_random_uuid(), 0, 'chatwoot', 't', 's', '', '')",
        ),
        (
            "inbox_failures",
            "INSERT INTO inbox_failures (tenant_id, event_id, received_at, subject_key, seq, bytes, lane, state, attempts, run_at, updated_at)
             VALUES ($1, gen_random_uuid(), now(), 0, 0, 0, 0, 'dead', 1, now(), now())",
        ),
        (
            "inbox_keys",
            "INSERT INTO inbox_keys (tenant_id, source_id, key_hash, event_id, received_at) VALUES ($1, gen_random_uuid(), sha256(''), gen_random_uuid(), now())",
        ),
        (
            "inbox_pending",
            "INSERT INTO inbox_pending (subject_key, received_at, tenant_id, event_id, bytes, lane) VALUES (0, now(), $1, gen_random_uuid(), 0, 0)",
        ),
        (
            "timeline",
            "INSERT INTO timeline (tenant_id, event_id, part, source_id, occurred_at, processed_at, service, type, subject, effects)
             VALUES ($1, gen_random_uuid(), 0, gen_random_uuid(), now(), now(), 'chatwoot', 't', 's', '{}')",
        ),
        (
            "people",
            "INSERT INTO people (tenant_id, user_id, username, name, kind, updated_at) VALUES ($1, gen_random_uuid(), 'u', 'U', 'person', now())",
        ),
        (
            "sync_grants",
            "INSERT INTO sync_grants (tenant_id, tool, account_id, scope, person_id, level, plan_id, granted_at)
             VALUES ($1, 't', gen_random_uuid()::text, 's', gen_random_uuid(), 1, gen_random_uuid(), now())",
        ),
        (
            "sync_links",
            "INSERT INTO sync_links (tenant_id, tool, person_id, account_id, evidence, linked_at)
             VALUES ($1, 't', gen_random_uuid(), gen_random_uuid()::text, 'created', now())",
        ),
        (
            "sync_plans",
            "INSERT INTO sync_plans (tenant_id, id, tool, digest, content, begun_at) VALUES ($1, gen_random_uuid(), 't', repeat('0', 64), '{}', now())",
        ),
        (
            "sync_steps",
            "INSERT INTO sync_steps (tenant_id, plan_id, place, step, begun_at) VALUES ($1, gen_random_uuid(), 0, '{}', now())",
        ),
        (
            "tenant_settings",
            "INSERT INTO tenant_settings (tenant_id, version, settings, updated_at) VALUES ($1, 1, '{}', now())",
        ),
        (
            "tenants",
            "INSERT INTO tenants (id, kind, path, name, created_at, updated_at) VALUES ($1, 'team', '/teams/' || $1, 'T', now(), now())",
        ),
        (
            "webhook_endpoints",
            "INSERT INTO webhook_endpoints (tenant_id, id, url, description, event_types, created_at, updated_at)
             VALUES ($1, CASE WHEN EXISTS (SELECT FROM webhook_endpoints WHERE id = $1) THEN gen_random_uuid() ELSE $1 END, 'https://a.test/', '',
                     '{*}', now(), now())",
        ),
        (
            "webhook_endpoint_secrets",
            "INSERT INTO webhook_endpoint_secrets (tenant_id, endpoint_id, id, sealed, created_at) VALUES ($1, $1, gen_random_uuid(), '', now())",
        ),
        (
            "webhook_endpoint_lanes",
            "INSERT INTO webhook_endpoint_lanes (tenant_id, endpoint_id, position, due_at) VALUES ($1, $1, 0, now())",
        ),
        (
            "webhook_deliveries",
            "INSERT INTO webhook_deliveries (tenant_id, id, endpoint_id, message_id, event_type, body, next_attempt_at, created_at)
             VALUES ($1, CASE WHEN EXISTS (SELECT FROM webhook_deliveries WHERE id = $1) THEN gen_random_uuid() ELSE $1 END, $1, 'm', 'e', '',
                     now(), now())",
        ),
        (
            "webhook_delivery_attempts",
            "INSERT INTO webhook_delivery_attempts (tenant_id, delivery_id, number, started_at) VALUES ($1, $1, (random() * 1e9)::integer + 1, now())",
        ),
        (
            "webhook_sources",
            // The first has the tenant's id: others refer to it.
            "INSERT INTO webhook_sources (tenant_id, id, service, name, account, scheme, created_at, updated_at)
             SELECT $1, CASE WHEN EXISTS (SELECT 1 FROM webhook_sources WHERE id = $1) THEN gen_random_uuid() ELSE $1 END,
                    'chatwoot', 'S', gen_random_uuid()::text, '{}', now(), now()",
        ),
        (
            "inbox_cursors",
            "INSERT INTO inbox_cursors (tenant_id, source_id, reached_at) VALUES ($1, (SELECT id FROM webhook_sources WHERE tenant_id = $1
             AND id NOT IN (SELECT source_id FROM inbox_cursors) LIMIT 1), now())",
        ),
        (
            "webhook_source_mappings",
            "INSERT INTO webhook_source_mappings (tenant_id, source_id, inbox_id, mapped_tenant_id, created_at)
             VALUES ($1, $1, (random() * 1e9)::bigint + 1, gen_random_uuid(), now())",
        ),
        (
            "webhook_source_secrets",
            "INSERT INTO webhook_source_secrets (tenant_id, source_id, id, purpose, sealed, created_at, valid_from)
             VALUES ($1, $1, gen_random_uuid(), 'signature', '', now(), now())",
        ),
    ])
}
