# What Chancery writes into the other tools: private notes in Chatwoot, notices in Matrix.
note-pending = { $person } asks for a decision
note-approved = Approved by { $person }
note-rejected = Rejected by { $person }
note-cancelled = Taken back by { $person }
note-expired = Expired without a decision
command-nothing-waits = Nothing waits for a decision.
command-waits = What waits for a decision:
command-latest-wait = What waits for a decision, the latest:
command-unknown = There is no such request here.
notice-consultation = A consultation has started
notice-dead = Needs to be mended
dead-webhooks = { $count ->
    [one] a received webhook could not be processed
   *[other] { $count } received webhooks could not be processed
}
dead-tasks = { $count ->
    [one] a task failed for good
   *[other] { $count } tasks failed for good
}
note-open = Open in Chancery
room-approvals = Approvals · { $tenant }
room-approvals-topic = What waits for a decision, and what was decided. Decisions are made in Chancery.
room-operations = Operations · { $tenant }
room-operations-topic = What failed for good and needs somebody who mends it.

# Why a private note that begins with /escalate leads to nothing.
escalation-refused-unmapped = Not escalated: your Chatwoot mail address belongs to no one (or to more than one person) here, or isn't verified in Keycloak. Ask your administrator.
escalation-refused-not-allowed = Not escalated: your role does not allow it. Ask an agent or a manager of this tenant.
escalation-refused-no-reason = Not escalated: write the reason after /escalate, for example “/escalate refund of 1,200 EUR”.
escalation-refused-no-approver = Not escalated: nobody but you could decide here. The tenant needs an approver.
escalation-refused-already-pending = Not escalated again: this conversation already waits for a decision.
escalation-refused-unknown-conversation = Not escalated: this conversation is not known here yet.

# What is kept of a conversation.
escalation-title = Conversation #{ $number } with { $contact }
escalation-title-unknown = Conversation #{ $number }
message-attachment = (attachment)
