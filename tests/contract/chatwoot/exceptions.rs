//! Where Chatwoot's document is known to be wrong or to say too little: the double answers as the sources of Chatwoot 4.15.1
//! (commit 5ce6e007) do, not as the document says.

/// A finding, and why it is none.
pub const EXCEPTIONS: &[(&str, &str)] = &[
    (
        "DELETE /platform/api/v1/accounts/{account_id}/account_users query user_id: not in the document",
        "the document doesn't say who is removed (account_users_controller.rb)",
    ),
    ("GET /api: no such operation", "the installation's version, for everybody; in no document"),
    (
        "GET /api/v1/accounts/1/dashboard_apps: no such operation",
        "dashboard apps are in no document (dashboard_apps_controller.rb)",
    ),
    (
        "POST /api/v1/accounts/1/dashboard_apps: no such operation",
        "dashboard apps are in no document (dashboard_apps_controller.rb)",
    ),
    (
        "GET /api/v1/accounts/{account_id}/conversations answer 200 /data/payload/*/meta/assignee: type, found null",
        "nobody is assigned",
    ),
    (
        "GET /api/v1/accounts/{account_id}/conversations query sort_by: not in the document",
        "the server reads it (conversation_finder.rb)",
    ),
    (
        "GET /api/v1/accounts/{account_id}/conversations query updated_within: not in the document",
        "the server reads it (conversation_finder.rb), and answers without pages",
    ),
    (
        "GET /api/v1/accounts/{account_id}/conversations/{conversation_id} answer 200 /meta/assignee: type, found null",
        "nobody is assigned",
    ),
    (
        "GET /api/v1/accounts/{account_id}/conversations/{conversation_id} answer 200 /status: enum, found a text",
        "the document leaves out `snoozed`",
    ),
    (
        "GET /api/v1/accounts/{account_id}/conversations/{conversation_id} answer 401: no such status",
        "a wrong token is a 401, as everywhere; the document says 403",
    ),
    (
        "GET /api/v1/accounts/{account_id}/conversations/{conversation_id}/messages answer 200 /meta/assignee: type, found null",
        "nobody is assigned",
    ),
    (
        "GET /api/v1/accounts/{account_id}/webhooks answer 200 : type, found an object",
        "the list is in `payload.webhooks`",
    ),
    (
        "POST /api/v1/accounts/{account_id}/conversations/{conversation_id}/assignments answer 200 : type, found null",
        "nobody is assigned, or there is no such team",
    ),
    (
        "POST /api/v1/accounts/{account_id}/conversations/{conversation_id}/assignments request /assignee_type: not in the document",
        "the server reads it: `AgentBot`",
    ),
    (
        "POST /api/v1/accounts/{account_id}/conversations/{conversation_id}/messages answer 429: no such status",
        "too many requests (rack_attack.rb)",
    ),
    (
        "POST /api/v1/accounts/{account_id}/conversations/{conversation_id}/messages answer 500: no such status",
        "Chatwoot fails",
    ),
    (
        "POST /api/v1/accounts/{account_id}/conversations/{conversation_id}/messages request /source_id: not in the document",
        "the server stores it, and whoever reads the message gets it",
    ),
    (
        "POST /api/v1/accounts/{account_id}/webhooks request /subscriptions/*: enum, found a text",
        "a case asks for an event that there is none of, to be refused",
    ),
    (
        "POST /api/v1/accounts/{account_id}/webhooks answer 422: no such status",
        "an unknown event or a URL that is taken: ActiveRecord's validation",
    ),
];
