//! Every page, rendered with sample data, keeps the promises that all pages make.
#![allow(clippy::expect_used, reason = "helpers of tests may stop the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use shell_ui::{
    ApprovalStatus, Assets, ConsultationStatus, ConversationStatus, DeliveryState, EndpointState,
    InboxOutcome, InboxState, Priority, SecretState, Texts, Theme, Ui, samples,
};

fn pages() -> Vec<(&'static str, String)> {
    samples::all(&Ui::new("")).expect("every page renders")
}

/// The values of an attribute, in order. Good enough for markup of our own, where values stand in double quotes.
fn values<'a>(page: &'a str, attribute: &str) -> Vec<&'a str> {
    let start = format!(" {attribute}=\"");
    page.split(&start).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

#[test]
fn every_page_renders_with_samples() {
    let pages = pages();
    let names: BTreeSet<_> = pages.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), pages.len(), "two samples share a name");
    for (name, page) in &pages {
        assert!(page.trim_start().starts_with("<!doctype html>"), "{name}");
        assert!(page.trim_end().ends_with("</html>"), "{name}");
        assert_eq!(page.matches("<h1").count(), 1, "{name} has one main heading");
        assert_eq!(page.matches("<main ").count(), 1, "{name} has one main landmark");
        assert!(page.contains("<html lang=\"en\""), "{name} says its language");
        assert!(page.contains(" · Chancery</title>"), "{name} says where one is");
    }
}

#[test]
fn what_people_wrote_never_becomes_markup() {
    for (name, page) in pages() {
        for markup in ["<script>alert", "<b>bold", "<img src=x", "<i>", "</textarea><"] {
            assert!(!page.contains(markup), "{name} contains {markup}");
        }
    }
    let shown = pages().into_iter().filter(|(_, page)| page.contains("&#60;script&#62;alert")).count();
    assert!(shown >= 5, "the samples with markup show it as text");
}

#[test]
fn nothing_needs_an_exception_from_the_content_security_policy() {
    for (name, page) in pages() {
        assert!(!page.contains("<style"), "{name}");
        assert!(!page.contains(" style=\""), "{name}");
        assert!(!page.contains("javascript:"), "{name}");
        for handler in [" onclick=", " onsubmit=", " onload=", " onchange=", " onerror="] {
            assert!(!page.contains(handler), "{name} has {handler}");
        }
        for script in page.split("<script").skip(1) {
            assert!(script.starts_with(" type=\"module\" src=\"/assets/"), "{name} has another script");
        }
    }
}

#[test]
fn what_pages_refer_to_is_served() {
    for (name, page) in pages() {
        for reference in values(&page, "src").into_iter().chain(values(&page, "href")) {
            if let Some(asset) = reference.strip_prefix("/assets/") {
                assert!(Assets::get(asset).is_some(), "{name} refers to {asset}");
            }
        }
    }
}

#[test]
fn ids_are_unique_and_references_to_them_hold() {
    for (name, page) in pages() {
        let ids = values(&page, "id");
        let unique: BTreeSet<_> = ids.iter().copied().collect();
        assert_eq!(unique.len(), ids.len(), "{name} has an id twice");
        for attribute in ["for", "aria-labelledby", "aria-describedby"] {
            for target in values(&page, attribute).into_iter().flat_map(str::split_whitespace) {
                assert!(unique.contains(target), "{name}: {attribute} names {target}, which isn't there");
            }
        }
        for target in values(&page, "href").into_iter().filter_map(|href| href.strip_prefix('#')) {
            assert!(unique.contains(target), "{name} links to #{target}, which isn't there");
        }
        for region in values(&page, "data-live") {
            assert!(unique.contains(region), "{name}: the live region {region} has no id");
        }
    }
}

#[test]
fn every_field_has_a_label() {
    for (name, page) in pages() {
        let labelled: BTreeSet<_> = values(&page, "for").into_iter().collect();
        for tag in ["<input ", "<select ", "<textarea "] {
            for field in page.split(tag).skip(1) {
                let field = field.split('>').next().unwrap_or_default();
                if field.contains("type=\"hidden\"") || field.contains("type=\"checkbox\"") {
                    continue; // nothing to label, or inside its label
                }
                let id =
                    field.split("id=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
                assert!(labelled.contains(id), "{name}: a field without a label: {field}");
            }
        }
    }
}

#[test]
fn a_form_that_comes_back_keeps_what_was_typed() {
    let pages: BTreeMap<_, _> = pages().into_iter().collect();
    let form = &pages["conversation-errors"];
    assert!(form.contains("value=\"Refund for Jonas\""));
    assert!(form.contains("<option value=\"high\" selected>"));
    assert!(form.contains("name=\"consultation_requested\" value=\"true\" checked"));
    assert!(form.contains("aria-invalid=\"true\" aria-describedby=\"hint-reason error-reason\""));
    assert!(form.contains("at most 200 characters"));
    assert!(pages["approval-new-errors"].contains("<option value=\"24\" selected>"));
    assert!(pages["approval-errors"].contains("\nKept as it was typed.</textarea>"));
    assert!(pages["settings-errors"].contains("<option value=\"300\" selected>"));
    assert!(!pages["settings-errors"].contains("name=\"step_up_high\" value=\"true\" checked"));
}

#[test]
fn who_may_not_decide_gets_the_reason_and_no_buttons() {
    let pages: BTreeMap<_, _> = pages().into_iter().collect();
    assert!(pages["approval"].contains("value=\"approved\""));
    for name in ["approval-own", "approval-approved", "approval-rejected", "approval-expired"] {
        assert!(!pages[name].contains("/decision\""), "{name}");
    }
    assert!(pages["approval-own"].contains("somebody else has to decide it"));
    assert!(pages["approval-own"].contains("/cancel\""));
}

#[test]
fn a_menu_of_many_tenants_is_cut_and_leads_to_all_of_them() {
    let pages: BTreeMap<_, _> = pages().into_iter().collect();
    let menu = |name: &str| {
        let menu = pages[name].split("<nav class=\"panel\"").nth(1).expect("the switcher's menu");
        menu.split("</nav>").next().expect("its end").to_owned()
    };
    assert_eq!(menu("tenants").matches("<li>").count(), 21);
    assert!(
        menu("tenants").contains("href=\"/app/tenants\"") && menu("tenants").contains("All 201 workspaces")
    );
    assert_eq!(menu("profile").matches("<li>").count(), 3);
    assert!(!menu("profile").contains("/app/tenants"));
}

#[test]
fn what_is_not_at_the_thumb_is_in_the_accounts_menu() {
    let pages: BTreeMap<_, _> = pages().into_iter().collect();
    let page = &pages["settings"];
    let (bar, account) = page.split_once("<details class=\"account menu\"").expect("the account's menu");
    assert!(bar.contains("<li class=\"desk-only\"><a href=\"settings.html\" aria-current=\"page\">"));
    assert_eq!(bar.matches("desk-only").count(), 4);
    // With what is counted on it.
    assert!(account.contains("<span dir=\"auto\">Webhooks</span><span class=\"count\">"));
    assert!(account.contains("<li class=\"phone-only\"><a href=\"settings.html\" aria-current=\"page\">"));
}

#[test]
fn a_fixed_theme_is_on_the_root() {
    let page = |theme| samples::all(&Ui::new("").with_theme(theme)).expect("renders").remove(0).1;
    assert!(page(Theme::Dark).contains("data-theme=\"dark\""));
    assert!(!page(Theme::System).contains("data-theme"));
}

#[test]
fn assets_come_from_the_configured_place() {
    for (name, page) in samples::all(&Ui::new("https://cdn.example.org/")).expect("renders") {
        assert!(page.contains("href=\"https://cdn.example.org/assets/app."), "{name}");
        assert!(!page.contains("\"/assets/"), "{name}");
        assert!(
            !page.contains("https://cdn.example.org/app/live-worker.js"),
            "{name}: workers are same-origin"
        );
    }
}

/// Every file below a folder of this crate with that ending, as text.
fn sources(folder: &str, ending: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    fs::read_dir(folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == ending))
        .map(|path| fs::read_to_string(path).expect("text"))
        .collect()
}

#[test]
fn every_text_that_is_asked_for_exists() {
    let files = sources("locales/en", "ftl");
    let mut asked = 0;
    for source in sources("templates", "html") {
        for call in [".t(\"", ".t_with(\"", ".t_count(\""] {
            for name in source.split(call).skip(1).filter_map(|rest| rest.split('"').next()) {
                if name.contains('{') {
                    continue; // made from a value; the samples show those
                }
                asked += 1;
                assert!(
                    files.iter().any(|file| file.lines().any(|line| line.starts_with(&format!("{name} =")))),
                    "no text is called {name}"
                );
            }
        }
    }
    assert!(asked > 150, "only {asked} found: has the way to ask changed?");
}

#[test]
fn texts_with_a_value_in_their_name_exist_for_every_value() {
    let mut names = Vec::new();
    for status in ApprovalStatus::ALL.iter().map(|value| value.as_str()) {
        names.push(format!("approval-status-{status}"));
        if status != "pending" {
            names.push(format!("approval-outcome-{status}"));
        }
    }
    for priority in Priority::ALL.iter().map(|value| value.as_str()) {
        names.extend([format!("priority-{priority}"), format!("priority-option-{priority}")]);
    }
    names.extend(
        ConversationStatus::ALL.iter().map(|value| format!("conversation-status-{}", value.as_str())),
    );
    names.extend(
        ConsultationStatus::ALL.iter().map(|value| format!("consultation-status-{}", value.as_str())),
    );
    names.extend(InboxState::ALL.iter().flat_map(|value| {
        [format!("inbox-state-{}", value.as_str()), format!("inbox-state-{}-detail", value.as_str())]
    }));
    names.extend(InboxOutcome::ALL.iter().map(|value| format!("inbox-outcome-{}", value.as_str())));
    names.extend(SecretState::ALL.iter().map(|value| format!("secret-state-{}", value.as_str())));
    names.extend(["poison", "gone", "database", "timeout"].map(|cause| format!("inbox-cause-{cause}")));
    names.extend(["personal", "team", "organization", "suite"].map(|kind| format!("tenant-kind-{kind}")));
    names.extend(EndpointState::ALL.iter().map(|value| format!("endpoint-state-{}", value.as_str())));
    names.extend(DeliveryState::ALL.iter().map(|value| format!("delivery-state-{}", value.as_str())));
    names.extend(["1", "24", "168", "720"].map(|hours| format!("since-{hours}")));
    names.extend(["0", "1", "24", "168"].map(|hours| format!("grace-{hours}")));
    names.extend(["4", "24", "72", "168", "never"].map(|hours| format!("expires-{hours}")));
    names.extend((1..=12).map(|month| format!("month-{month}")));
    for status in [400, 401, 403, 404, 405, 409, 410, 412, 413, 415, 422, 429, 431, 500, 503] {
        names.extend([format!("problem-{status}"), format!("problem-{status}-detail")]);
    }
    for field in [
        "reason",
        "title",
        "description",
        "priority",
        "expires-in-hours",
        "comment",
        "from",
        "to",
        "step-up-priorities",
        "step-up-max-age",
        "url",
        "event-types",
    ] {
        names.push(format!("form-{field}"));
    }
    let page = samples::all(&Ui::new("")).expect("renders").remove(0).1;
    let events = page.split("data-on-").skip(1).filter_map(|rest| rest.split_once("=\""));
    let told = events.filter(|(_, words)| !words.starts_with('"')).map(|(event, _)| event);
    names.extend(told.map(|event| format!("live-{event}")));
    for name in names {
        assert!(Texts::default().find(&name).is_some(), "no text is called {name}");
    }
}
