# Received webhooks.
module-inbox = Webhooks
suite = The suite
tenant-kind-suite = For who runs it
failed-badge = { $count ->
    [one] { $count } failed
   *[other] { $count } failed
}
inbox-title = Webhooks
inbox-lede = What external tools have posted here, and what came of it.
inbox-tabs = Webhooks
inbox-tab-events = Received
inbox-tab-sources = Sources
inbox-dead = { $count ->
    [one] One webhook could not be processed. Replay or discard it.
   *[other] { $count } webhooks could not be processed. Replay or discard them.
}
inbox-filters = Filter what was received
inbox-source = Source
inbox-any-source = Any source
inbox-type = Type
inbox-subject = About
inbox-service = Tool
inbox-none = Nothing received yet
inbox-none-detail = As soon as a tool posts to one of the sources, it appears here.
inbox-none-filtered = Nothing matches
inbox-none-filtered-detail = Try another state, source or period. Type and subject have to be exact.
inbox-duplicates = { $count ->
    [one] came once more
   *[other] came { $count } times more
}
inbox-attempts-made = { $count ->
    [one] tried once
   *[other] tried { $count } times
}
inbox-next = next attempt
inbox-state-pending = Waiting
inbox-state-pending-detail = It is stored, and its turn comes in a moment.
inbox-state-retrying = Trying again
inbox-state-retrying-detail = It failed, and is tried again by itself. Later webhooks about the same wait for it.
inbox-state-parked = Behind another
inbox-state-parked-detail = An earlier webhook about the same is being tried again; this one follows it, so that the order is kept.
inbox-state-dead = Failed
inbox-state-dead-detail = It was given up. Once the cause is gone, replay it; if it isn’t needed, discard it.
inbox-state-replaying = Replaying
inbox-state-replaying-detail = Somebody asked for it to be processed again; its turn comes in a moment.
inbox-state-done = Done
inbox-state-done-detail = It has had its effect, exactly once for each time that it was asked for.
inbox-state-discarded = Discarded
inbox-state-discarded-detail = Somebody decided that it isn’t needed. It can still be replayed as long as it is kept.
inbox-cause-poison = It can’t be understood
inbox-cause-gone = It isn’t kept any more
inbox-cause-database = The database refused it
inbox-cause-timeout = It took too long
inbox-outcome-done = Had its effect
inbox-outcome-failed = Failed, and is tried again
inbox-outcome-dead = Failed, and was given up
inbox-outcome-discarded = Discarded
back-to-inbox = All webhooks
inbox-standing = How it stands
inbox-discarded-because = Discarded, because:
inbox-discarded-by = Discarded by { $person }, because:
inbox-replay = Process it again
inbox-replay-busy = Asking…
inbox-replayed = replay
inbox-discard = Discard it
inbox-discard-reason = Why it isn’t needed
inbox-discard-hint = The reason goes into the audit trail. What waits behind it goes on.
inbox-discard-submit = Discard
inbox-discard-busy = Discarding…
inbox-body = What came
inbox-bytes = { $count ->
    [one] { $count } byte.
   *[other] { $count } bytes.
}
inbox-masked = { $count ->
    [one] One secret is masked.
   *[other] { $count } secrets are masked.
}
inbox-body-unreadable = It isn’t text, so it can’t be shown.
inbox-headers = Headers
inbox-header-name = Name
inbox-header-value = Value
inbox-effects = What it led to
inbox-effects-none = Nothing yet.
inbox-effects-told = A line of the timeline, and nothing else.
inbox-effect-conversation = The conversation was brought up to date
inbox-effect-job = A job: { $job }
inbox-attempts = Attempts
inbox-facts = At a glance
inbox-occurred = Happened
inbox-processed = Processed
inbox-runs = { $count ->
    [one] (once)
   *[other] ({ $count } times)
}
inbox-came-again = Repeats
inbox-delivery = Delivery
inbox-id = Number
inbox-replay-all = Replay all of these
inbox-replay-hint = To replay many at once, filter by “Failed”, “Discarded” or “Done”.
inbox-replay-lede = Each is processed again, in order within what it is about. What an earlier run has already done elsewhere isn’t done twice.
inbox-replay-changed = It is another number than a moment ago. Nothing was replayed; please look again.
inbox-replay-count = { $count ->
    [0] Nothing matches
    [one] One webhook matches
   *[other] { $count } webhooks match
}
inbox-replay-too-many = { $count ->
    [one] At most one can be replayed at once. Please narrow the filter.
   *[other] At most { $count } can be replayed at once. Please narrow the filter.
}
inbox-replay-submit = { $count ->
    [one] Replay it
   *[other] Replay { $count }
}
inbox-replay-not = Don’t
inbox-replay-until = Received until

# Their sources.
sources-title = Sources of webhooks
sources-lede = The tools that post here, each with an address and a secret of its own.
sources-new = Add a source
sources-none = No sources yet
sources-none-detail = Add one to get an address that a tool can post to.
source-last-hour = { $count ->
    [one] { $count } in an hour
   *[other] { $count } in an hour
}
source-last-day = { $count ->
    [one] { $count } in a day
   *[other] { $count } in a day
}
source-last = last
source-last-none = none lately
source-last-heading = Last one
source-active = Active
source-paused = Paused
source-busy = One moment…
back-to-sources = All sources
source-once = Copy this now
source-once-detail = It isn’t shown again. If it gets lost, replace it by a new one.
source-secret = Secret
source-challenge-token = Verify token
source-address = Where the tool posts to
source-url = Address
source-url-hint = Give it to the tool as the address of its webhook. Nobody can guess it, and it needs the secret all the same.
source-secrets = Secrets
source-secrets-none = It has no secret yet. Give it the one that the tool makes for the address.
source-secret-given = given
source-secret-until = counts until
secret-state-current = Counts
secret-state-ending = Ends soon
secret-state-ended = Ended
source-revoke = Revoke
source-rotate = Replace the secret
source-rotate-hint = Leave it empty, and one is made and shown once.
source-rotate-hint-tool = The tool makes it; copy it from there.
source-rotate-challenge = It is the verify token instead
source-rotate-submit = Replace
source-grace = The old one counts on for
source-grace-0 = not at all
source-grace-3600 = 1 hour
source-grace-86400 = 1 day
source-grace-604800 = 1 week
source-grace-2592000 = 30 days
source-change = Name and limit
source-name = Name
source-limit = Limit
source-limit-said = { $requests } in { $seconds } s
source-limit-requests = At most so many webhooks
source-limit-seconds = in so many seconds
source-received = Received
source-failures = Failed
source-account = Account in the tool
source-created = Added
source-mappings = Whose its inboxes are
source-mappings-none = Nobody’s yet: what comes is parked here. Map an inbox by the API or at the command line, then replay.
source-mapping-inbox = Inbox { $inbox }
source-mapping-others = All others
source-scheme = How it proves itself
source-state = Pause or remove
source-pause = Pause
source-pause-hint = Its webhooks are refused until you resume it. Many tools repeat them for a while.
source-resume = Resume
source-remove = Remove it
source-remove-hint = Its address and secrets are gone for good. What it has sent stays.
source-remove-submit = Yes, remove it
source-new-lede = Say which tool it is, and you get the address to give to it.
source-new-submit = Add it
source-scheme-hint = The tool, or the way in which its requests are signed.
source-service = Tool
source-service-hint = It stands in the address: small letters, digits and dashes.
source-account-hint = Chatwoot’s account id, or the id of Matrix’s application service. Others need none.
source-secret-hint = The one that the tool has made, if it has. Else leave it empty: one is made and shown once.
source-settings = Settings of one’s own
source-settings-field = Scheme as JSON
source-settings-hint = Instead of the choice above, such as a signature with other headers: see the API’s description of schemes.

# Fields, where the summary of what is wrong names them.
form-service = Tool
form-name = Name
form-account = Account
form-scheme = How it proves itself
form-settings = Scheme as JSON
form-secret = Secret
form-limit-requests = At most so many
form-limit-seconds = In so many seconds
error-number = Please enter a number from { $from } to { $to }.
error-json = This isn’t the JSON of a scheme.
error-service = Please use small letters, digits and dashes only.
error-account-needed = This tool’s account has to be named.
error-account-taken = This account has a source already.
error-secret-needed = The tool makes its secret: please copy it from there.
error-secret-form = The secret doesn’t have the form that this scheme needs.
error-scheme-service = This tool has a scheme of its own.

# What has just happened.
flash-inbox-replaying = It will be processed again in a moment.
flash-inbox-discarded = Discarded. The reason is in the audit trail.
flash-inbox-discarding = It will be discarded in a moment.
flash-inbox-not-replayable = It is being processed just now, so it can’t be replayed.
flash-inbox-not-failed = It hasn’t failed, so there is nothing to discard.
flash-source-saved = Saved.
flash-source-paused = Paused. Its webhooks are refused from now on.
flash-source-resumed = Resumed. Its webhooks are taken again.
flash-source-removed = Removed, with its secrets.
flash-secret-revoked = Revoked. It doesn’t count any more.

# Live updates.
live-webhook-dead = A webhook could not be processed.

# In the audit trail.
audit-inbox-event-replayed = replayed the webhook
audit-inbox-event-discarded = discarded the webhook
audit-inbox-replayed = replayed webhooks together:
field-count = Number
field-filter = Filter
field-reason = Reason

# What went wrong.
problem-inbox-in-progress = It is being processed just now
problem-inbox-in-progress-detail = What waits or is tried again by itself can’t be replayed. Please wait until it is done or has failed.
problem-inbox-not-failed = It hasn’t failed
problem-inbox-not-failed-detail = Only what has failed, or waits behind something that has, can be discarded.
problem-inbox-other-count = It is another number by now
problem-inbox-other-count-detail = Nothing was replayed. Please look again at how many it is.
problem-inbox-too-many = That is too many at once
problem-inbox-too-many-detail = Please narrow the filter and replay them in parts.
