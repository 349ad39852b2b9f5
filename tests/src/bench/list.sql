\set n random(0, 99)
BEGIN;
SELECT set_config('app.actor_id', ('05000000-0000-4000-8000-' || lpad(to_hex(:n::int * 2), 12, '0')), true), set_config('app.tenant_id', '', true), set_config('app.tenant_ids', '{7e000000-0000-4000-8000-' || lpad(to_hex(:n::int), 12, '0') || '}', true);
SELECT id, tenant_id, title, description, status, requested_by, NULL::text, approved_by, NULL::text, priority, comment, metadata, source_service, source_account, source_conversation, source_message, source_link, conversation_id, consultation_requested, expires_at, version, created_at, updated_at, decided_at FROM approvals WHERE tenant_id = ('7e000000-0000-4000-8000-' || lpad(to_hex(:n::int), 12, '0'))::uuid AND id < 'ffffffff-ffff-ffff-ffff-ffffffffffff' AND (NULL::text IS NULL OR priority = NULL) ORDER BY id DESC LIMIT 21;
ROLLBACK;
