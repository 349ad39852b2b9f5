//! The alert rules ask for what is measured.

use std::collections::BTreeSet;

use crate::{assert_none, files, root};

fn rules() -> String {
    std::fs::read_to_string(root().join("compose/alerts.yaml")).unwrap()
}

/// The expressions of the rules.
fn expressions(rules: &str) -> Vec<&str> {
    rules.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).collect()
}

fn code() -> Vec<String> {
    files(&root().join("orchestrator/src"), ".rs")
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect()
}

/// The names of what the code measures: the first argument of the macros of `metrics`.
fn measured(code: &[String]) -> BTreeSet<&str> {
    let macros = ["counter!(", "gauge!(", "histogram!("];
    let calls = code.iter().flat_map(|text| macros.iter().flat_map(move |name| text.split(name).skip(1)));
    calls.filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next()).collect()
}

/// The names in an expression that are ours.
fn asked(expression: &str) -> impl Iterator<Item = &str> {
    let is_of_a_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    expression.split(move |letter| !is_of_a_name(letter)).filter(|word| word.starts_with("chancery_"))
}

#[test]
fn every_metric_of_an_alert_is_measured_under_its_labels() {
    let (rules, code) = (rules(), code());
    let measured = measured(&code);
    assert!(measured.len() > 15, "the metrics are found: {measured:?}");
    let mut wrong = Vec::new();
    for expression in expressions(&rules) {
        assert!(asked(expression).next().is_some(), "{expression} asks for nothing of ours");
        wrong.extend(
            asked(expression)
                .filter(|name| !measured.contains(name))
                .map(|name| format!("{name} is not measured")),
        );
        // `{outcome="done"}`: a label that the macro sets, with a value that the code knows.
        for label in expression.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
            let (name, value) = label.split_once('=').unwrap();
            let (name, value) = (format!("\"{name}\" => "), value.to_owned());
            if !code.iter().any(|text| text.contains(&name)) || !code.iter().any(|text| text.contains(&value))
            {
                wrong.push(format!("{expression}: the label {label} is set nowhere"));
            }
        }
    }
    assert_none("alerts on what nobody measures", &wrong);
}

#[test]
fn there_is_an_alert_for_depth_age_and_success() {
    let rules = rules();
    let expressions = expressions(&rules);
    for (metric, limit) in [
        ("chancery_inbox_depth", "> 1000"),
        ("chancery_inbox_oldest_seconds", "> 60"),
        ("chancery_inbox_processed_total", "< 0.95"),
    ] {
        let found =
            expressions.iter().any(|expression| expression.contains(metric) && expression.ends_with(limit));
        assert!(found, "no alert on {metric} {limit}");
    }
    for needed in ["alert: ", "for: ", "severity: ", "summary: "] {
        assert_eq!(rules.matches(needed).count(), expressions.len(), "each rule has its {needed}");
    }
}
