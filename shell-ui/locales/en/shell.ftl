# What is on every page.
product = Chancery
skip-link = Skip to the content
sidebar = Main
module-overview = Overview
module-conversations = Conversations
module-approvals = Approvals
module-consultations = Consultations
module-audit = Audit trail
module-endpoints = Outgoing webhooks
module-settings = Settings
module-modules = Modules
module-health = Health
tools = Your tools
opens-new-tab = opens in a new tab
tool-open = Open in a new tab
tool-hint = If nothing appears above, { $tool } doesn’t let itself be shown here, or wants you to sign in first: open it in a new tab.
account = Your account
profile = Your profile
sign-out = Sign out
sign-in = Sign in
switch-tenant = Switch workspace
current-tenant = Current workspace
switcher-all = { $count ->
    [one] Your { $count } workspace
   *[other] All { $count } workspaces
}
tenant-kind-personal = Personal
tenant-kind-team = Team
tenant-kind-organization = Organization
waiting-badge = { $count ->
    [one] { $count } waiting
   *[other] { $count } waiting
}
somebody = Somebody
dismiss = Dismiss
nothing = nothing
yes = yes
no = no
older = Older
newest = Back to the newest
pages = Pages
filter-apply = Apply
filter-clear = Clear
filter-any-status = Any status
filter-any-priority = Any priority
status = Status
priority = Priority
errors-heading = Please check what you entered
optional = optional
back-to-approvals = All approvals
back-to-conversations = All conversations
back-to-consultations = All consultations
back-to-endpoints = All endpoints
back-to-endpoint = The endpoint
back-to-modules = All modules

# Live updates.
live-approval-created = A new request for approval has arrived.
live-approval-decided = A request has been decided.
live-approval-cancelled = A request has been withdrawn.
live-approval-expired = A request has expired.
live-consultation-created = A consultation has been set up.
live-consultation-started = A consultation has started.
live-consultation-ended = A consultation has ended.
live-consultation-cancelled = A consultation has been cancelled.
live-endpoint-disabled = A webhook endpoint was switched off: nothing arrives there any more.
live-region = News
live-open = Open
live-changed = This page has changed since you opened it. What you typed is still here.
live-ended = You have been signed out, or your access has changed.
live-reload = Reload

# Times.
time-now = just now
time-soon = in a moment
time-minutes-ago = { $count ->
    [one] { $count } minute ago
   *[other] { $count } minutes ago
}
time-hours-ago = { $count ->
    [one] { $count } hour ago
   *[other] { $count } hours ago
}
time-in-minutes = { $count ->
    [one] in { $count } minute
   *[other] in { $count } minutes
}
time-in-hours = { $count ->
    [one] in { $count } hour
   *[other] in { $count } hours
}
time-day-and-clock = { $day } at { $clock }
time-today = Today
time-yesterday = Yesterday
month-1 = January
month-2 = February
month-3 = March
month-4 = April
month-5 = May
month-6 = June
month-7 = July
month-8 = August
month-9 = September
month-10 = October
month-11 = November
month-12 = December

# Roles.
role-member = Member
role-viewer = Viewer
role-agent = Agent
role-manager = Manager
role-approver = Approver
role-owner = Owner
role-auditor = Auditor
role-platform-admin = Platform administrator

# What has just happened.
flash-approved = Approved. The requester and the conversation have been told.
flash-rejected = Rejected. The requester and the conversation have been told.
flash-cancelled = Your request has been withdrawn.
flash-requested = Your request is on its way. You will see the decision here.
flash-escalated = Escalated. You will see the decision here and as a note in the conversation.
flash-consultation-started = The consultation has started.
flash-consultation-ended = The consultation has ended.
flash-consultation-cancelled = The consultation has been cancelled.
flash-already-decided = Somebody else has decided this in the meantime. Their decision stands.
flash-already-pending = This conversation already has a request that waits for a decision.
flash-stale = This has changed since you opened it. Please look again and repeat what you wanted to do.
flash-not-allowed = You may see this, but not change it.
flash-settings-saved = Saved. The settings hold from now on.
flash-already-ended = This consultation has already ended.
flash-already-cancelled = This consultation has been cancelled.
flash-already-started = This consultation has already started. You can end it instead.
flash-confirmed = Thank you, it is you. Please look at it once more, and send it.
flash-session-ended = Signed out there.
flash-sessions-ended = Signed out everywhere else.
flash-session-over = That sign-in has already ended.
flash-endpoint-saved = Saved. It holds for what is sent from now on.
flash-endpoint-on = Switched on. What happens is sent from now on.
flash-endpoint-off = Switched off. Nothing is sent until you switch it on again.
flash-endpoint-removed = The endpoint is gone, and its secrets with it.
flash-endpoint-test-sent = A test event is on its way. It appears below, and what came of it.
flash-delivery-again = It is sent again. What comes of it appears below.
flash-deliveries-again = What failed is sent again.
flash-deliveries-none = Nothing has failed since then.
flash-endpoint-is-off = This endpoint is switched off. Switch it on first.
flash-endpoints-full = This workspace has as many endpoints as it may. Remove one first.
flash-module-added = Added. Whoever may see it finds it in the sidebar.
flash-module-saved = Saved. The sidebar shows it as it is now.
flash-module-removed = The module is gone from the sidebar.
flash-modules-full = There are as many modules as there may be. Remove one first.
flash-delivery-pending = This is still to be sent.
flash-secrets-full = Too many secrets are valid at the moment. Wait until the older ones have expired.
