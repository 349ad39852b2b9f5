//! What people read comes from `shell-ui/locales`: nothing is asked for that isn't there, and nothing is there for nobody.

use std::collections::BTreeSet;

use crate::{assert_none, files, root, shown};

/// Problems that only programs get: their endpoints are no pages. By code, with the reason.
const FOR_PROGRAMS: [(&str, &str); 11] = [
    ("clock_skew", "/ready, for load balancers"),
    ("events.too_many_streams", "event streams, which scripts open"),
    ("headers_too_large", "a status that says enough: problem-431"),
    ("idempotency.in_progress", "Idempotency-Key, which no form sends"),
    ("idempotency.key_reused", "Idempotency-Key, which no form sends"),
    ("not_json", "bodies of the API"),
    ("not_set_up", "/ready and the API, while the settings name no Keycloak"),
    ("stopping", "/ready, for load balancers"),
    ("webhooks.busy", "webhooks"),
    ("webhooks.refused", "webhooks"),
    ("webhooks.unreadable", "webhooks"),
];

/// Problems of which a page says what it says of their status.
const BY_STATUS: [&str; 11] = [
    "forbidden",
    "internal",
    "invalid",
    "method_not_allowed",
    "not_found",
    "stale",
    "too_large",
    "unauthorised",
    "unavailable",
    "unreadable",
    "unsupported_media_type",
];

/// Texts that are asked for by a name made from a value: how the names begin, and where the values are.
const BY_VALUE: [(&str, &str); 35] = [
    ("approval-outcome-", "ApprovalStatus"),
    ("approval-status-", "ApprovalStatus"),
    ("audit-", "the trail's actions, below"),
    ("consultation-status-", "ConsultationStatus"),
    ("conversation-status-", "ConversationStatus"),
    ("delivery-outcome-", "Outcome"),
    ("delivery-state-", "DeliveryState"),
    ("demo-role-", "the demo's people"),
    ("demo-try-", "the demo's people"),
    ("endpoint-because-", "DisabledBecause"),
    ("endpoint-state-", "EndpointState"),
    ("error-url-", "what may be wrong with an address"),
    ("escalation-refused-", "the refusals of /escalate, which a test of theirs goes through"),
    ("event-type-", "EventType, and all of a kind"),
    ("expires-", "the choices of a new request"),
    ("field-", "the fields of the trail's values, below"),
    ("flash-", "Flash::from_code, whose test goes through them"),
    ("form-", "the names of forms' fields"),
    ("grace-", "the choices of how long an old secret is valid"),
    ("health-part-", "the names of the doctor's checks, which its test goes through"),
    ("health-verdict-", "HealthVerdict"),
    ("icon-", "the icons that a module may have"),
    ("inbox-cause-", "what kind of cause a failure has"),
    ("inbox-outcome-", "InboxOutcome"),
    ("inbox-state-", "InboxState"),
    ("live-", "the types of events"),
    ("month-", "the months"),
    ("priority-", "Priority"),
    ("problem-", "statuses and codes, below"),
    ("role-", "Role"),
    ("secret-state-", "SecretState"),
    ("since-", "the choices of what is sent again"),
    ("settings-age-", "how old a proof may be, in seconds"),
    ("source-grace-", "for how long an old secret counts on, in seconds"),
    ("tenant-kind-", "TenantKind"),
];

/// The names of all texts.
fn texts() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for path in files(&root().join("shell-ui/locales/en"), ".ftl") {
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            let Some((name, _)) = line.split_once(" =") else { continue };
            if name.starts_with(|letter: char| letter.is_ascii_lowercase()) && !name.contains(' ') {
                assert!(names.insert(name.to_owned()), "{}: {name} is there twice", shown(&path));
            }
        }
    }
    assert!(names.len() > 300, "the texts are found");
    names
}

/// Everything that may ask for a text: templates, and the code of both crates without its samples.
fn sources() -> Vec<String> {
    let mut found = files(&root().join("shell-ui/templates"), ".html");
    found.extend(files(&root().join("shell-ui/src"), ".rs"));
    found.extend(code());
    found.retain(|path| !shown(path).contains("/samples/"));
    found.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

fn code() -> Vec<std::path::PathBuf> {
    files(&root().join("orchestrator/src"), ".rs")
}

/// The codes of all problems in the orchestrator's code: the second argument of what makes one, after the status.
fn codes() -> BTreeSet<String> {
    let literal = |argument: &str| Some(argument.strip_prefix('"')?.split('"').next()?.to_owned());
    let mut codes = BTreeSet::new();
    for path in code() {
        let text = std::fs::read_to_string(&path).unwrap();
        for call in ["Problem::new(", "Self::new("].iter().flat_map(|maker| text.split(maker).skip(1)) {
            let mut arguments = call.split(',').map(str::trim);
            if arguments.next().is_some_and(|status| status.starts_with("StatusCode::")) {
                codes.extend(arguments.next().and_then(literal));
            }
        }
        for maker in ["not_ready(", ".named("] {
            codes.extend(text.split(maker).skip(1).filter_map(literal));
        }
    }
    assert!(codes.len() > 25, "the codes are found: {codes:?}");
    codes
}

fn text_of(code: &str) -> String {
    format!("problem-{}", code.replace(['.', '_'], "-"))
}

#[test]
fn each_problem_that_a_page_can_show_has_words() {
    let (texts, codes) = (texts(), codes());
    let mut wrong = Vec::new();
    for code in &codes {
        let text = text_of(code);
        let has_words = texts.contains(&text) && texts.contains(&format!("{text}-detail"));
        let is_excepted = BY_STATUS.contains(&code.as_str())
            || FOR_PROGRAMS.iter().any(|(excepted, reason)| excepted == code && !reason.is_empty());
        if has_words == is_excepted {
            wrong.push(format!(
                "{code}: {text} and {text}-detail, or an exception with a reason, and not both"
            ));
        }
    }
    let excepted = FOR_PROGRAMS.iter().map(|(code, _)| *code).chain(BY_STATUS);
    wrong.extend(
        excepted.filter(|code| !codes.contains(*code)).map(|code| format!("{code} is no code any more")),
    );
    assert_none("problems without words", &wrong);
}

/// All string literals of a text that look like `kind.what_happened`.
fn dotted(text: &str) -> impl Iterator<Item = &str> {
    text.split('"').filter(|literal| {
        literal.split_once('.').is_some_and(|(kind, what)| {
            let is_word = |word: &str| {
                !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
            };
            is_word(kind) && is_word(what)
        })
    })
}

#[test]
fn each_text_is_asked_for_by_somebody() {
    let sources = sources();
    let said = |words: &str| sources.iter().any(|source| source.contains(words));
    // Where entries of the trail are made.
    let dotted: BTreeSet<String> = sources
        .iter()
        .filter(|source| source.contains("audit::record"))
        .flat_map(|source| dotted(source))
        .map(|action| action.replace(['.', '_'], "-"))
        .collect();
    let codes: BTreeSet<String> = codes().iter().map(|code| text_of(code)).collect();
    let mut unused = Vec::new();
    for name in texts() {
        let asked = said(&format!("\"{name}\""))
            || match BY_VALUE.iter().find(|(prefix, _)| name.starts_with(prefix)) {
                None => false,
                Some(("audit-", _)) => dotted.contains(name.trim_start_matches("audit-")),
                Some(("field-", _)) => said(&format!("\"{}\"", name.trim_start_matches("field-"))),
                Some(("problem-", _)) => {
                    let of = name.trim_end_matches("-detail");
                    codes.contains(of) || of.trim_start_matches("problem-").parse::<u16>().is_ok()
                }
                Some(("live-", _)) => said(&format!("\"{}\"", name.trim_start_matches("live-"))),
                Some(_) => true,
            };
        if !asked {
            unused.push(name);
        }
    }
    assert_none("texts that nobody asks for", &unused);
}

#[test]
fn each_action_of_the_trail_has_words() {
    let texts = texts();
    let mut wordless = Vec::new();
    for path in code() {
        let text = std::fs::read_to_string(&path).unwrap();
        // Where entries are made: the slices' services and jobs, and the directory.
        if !text.contains("audit::record") {
            continue;
        }
        // The kinds of jobs begin with the slice's name, which is a plural.
        let is_kind = |action: &&str| {
            ["approvals.", "consultations.", "conversations."].iter().any(|slice| action.starts_with(slice))
        };
        for action in dotted(&text).filter(|action| !is_kind(action)) {
            if !texts.contains(&format!("audit-{}", action.replace(['.', '_'], "-"))) {
                wordless.push(format!("{}: {action}", shown(&path)));
            }
        }
    }
    assert_none("actions without words", &wordless);
}

#[test]
fn each_text_that_the_code_asks_for_is_there() {
    let texts = texts();
    let mut missing = Vec::new();
    let mut asked = 0;
    for path in code() {
        let text = std::fs::read_to_string(&path).unwrap();
        for call in [".t(\"", ".t_with(\"", ".t_with_all(\"", ".t_count(\""] {
            for name in text.split(call).skip(1).filter_map(|rest| rest.split('"').next()) {
                asked += 1;
                if !texts.contains(name) {
                    missing.push(format!("{}: {name}", shown(&path)));
                }
            }
        }
    }
    assert!(asked > 15, "only {asked} found: has the way to ask changed?");
    assert_none("texts that are asked for and aren't there", &missing);
}

#[test]
fn each_value_that_names_a_text_is_of_a_kind_that_has_some() {
    let texts = texts();
    for (prefix, values) in BY_VALUE {
        assert!(
            !values.is_empty() && texts.iter().any(|name| name.starts_with(prefix)),
            "{prefix} has no texts"
        );
    }
}
