use std::collections::BTreeSet;

use crate::{root, shown};

/// The crates of ours that a crate may depend on.
const MAY_DEPEND_ON: [(&str, &[&str]); 16] = [
    ("connectors/core", &[]),
    ("connectors/keycloak", &["connector-core"]),
    ("connectors/chatwoot", &["connector-core"]),
    ("connectors/matrix", &["connector-core"]),
    ("connectors/jitsi", &["connector-core"]),
    ("connectors/webhooks", &["connector-core"]),
    ("shell-ui", &[]),
    ("local-postgres", &[]),
    (
        "orchestrator",
        &[
            "connector-core",
            "connector-keycloak",
            "connector-chatwoot",
            "connector-matrix",
            "connector-jitsi",
            "connector-webhooks",
            "shell-ui",
            "local-postgres",
        ],
    ),
    (
        "tests",
        &[
            "chancery",
            "connector-core",
            "connector-keycloak",
            "connector-chatwoot",
            "connector-matrix",
            "connector-jitsi",
            "connector-webhooks",
            "shell-ui",
            "local-postgres",
        ],
    ),
    (
        "tests/chaos",
        &["chancery", "connector-core", "connector-keycloak", "connector-chatwoot", "local-postgres"],
    ),
    (
        "tests/contract",
        &[
            "chancery",
            "connector-core",
            "connector-keycloak",
            "connector-chatwoot",
            "connector-matrix",
            "connector-jitsi",
            "connector-webhooks",
            "local-postgres",
        ],
    ),
    ("tests/contract/chatwoot", &["connector-core", "connector-chatwoot"]),
    ("tests/contract/matrix", &["connector-core", "connector-matrix"]),
    ("tests/fuzz", &["connector-webhooks", "connector-chatwoot", "connector-matrix"]),
    ("tests/xtask", &["local-postgres"]),
];

const OURS: [&str; 9] = [
    "chancery",
    "connector-core",
    "connector-keycloak",
    "connector-chatwoot",
    "connector-matrix",
    "connector-jitsi",
    "connector-webhooks",
    "shell-ui",
    "local-postgres",
];

/// What the shell's looks must not know.
const NOT_IN_SHELL_UI: [&str; 5] = ["axum", "sqlx", "reqwest", "tokio", "tower"];

fn manifest(folder: &str) -> toml::Table {
    std::fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap().parse().unwrap()
}

fn dependencies(manifest: &toml::Table) -> BTreeSet<String> {
    ["dependencies", "dev-dependencies", "build-dependencies"]
        .iter()
        .filter_map(|section| manifest.get(*section)?.as_table())
        .flat_map(|section| section.keys().cloned())
        .collect()
}

#[test]
fn crates_depend_one_way() {
    for (folder, allowed) in MAY_DEPEND_ON {
        let manifest = manifest(folder);
        let mut found = dependencies(&manifest);
        // A crate's tests may ask for its own double.
        found.remove(manifest["package"]["name"].as_str().unwrap());
        for ours in OURS {
            assert!(!found.contains(ours) || allowed.contains(&ours), "{folder} must not depend on {ours}");
        }
    }
}

#[test]
fn every_crate_is_in_the_list() {
    let workspace = manifest("");
    let members = workspace["workspace"]["members"].as_array().unwrap();
    for member in members {
        let member = member.as_str().unwrap();
        assert!(MAY_DEPEND_ON.iter().any(|(folder, _)| *folder == member), "{member} is not in the list");
    }
    assert_eq!(members.len(), MAY_DEPEND_ON.len());
}

#[test]
fn the_shells_looks_know_no_server_no_database_and_no_client() {
    let found = dependencies(&manifest("shell-ui"));
    for name in NOT_IN_SHELL_UI {
        assert!(!found.contains(name), "shell-ui must not depend on {name}");
    }
}

#[test]
fn versions_and_lints_are_set_in_one_place() {
    for (folder, _) in MAY_DEPEND_ON {
        let manifest = manifest(folder);
        assert_eq!(
            manifest["lints"]["workspace"].as_bool(),
            Some(true),
            "{folder} does not take the workspace's lints"
        );
        for section in ["dependencies", "dev-dependencies"] {
            for (name, dependency) in
                manifest.get(section).and_then(toml::Value::as_table).into_iter().flatten()
            {
                let from_workspace = dependency.get("workspace").and_then(toml::Value::as_bool) == Some(true);
                assert!(
                    from_workspace,
                    "{}: {name} does not say workspace = true",
                    shown(&root().join(folder).join("Cargo.toml"))
                );
            }
        }
    }
}
