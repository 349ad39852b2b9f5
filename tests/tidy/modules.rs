use std::path::Path;

use crate::{assert_none, files, root, shown};

/// The slices of the orchestrator.
const SLICES: [&str; 11] = [
    "approvals",
    "consultations",
    "conversations",
    "endpoints",
    "inbox",
    "matrix",
    "modules",
    "sign_ins",
    "sources",
    "sync",
    "tenants",
];
/// Where kernel and slices are put together; everything else of the kernel imports no slice.
const COMPOSITION: [&str; 4] = ["app.rs", "http/router.rs", "http/openapi.rs", "auth/routes.rs"];
/// What stands above the slices and may use them.
const ABOVE: [&str; 5] = ["pages/", "demo/", "doctor/", "cli/", "testing/"];
/// Who may name the door without a tenant.
const SYSTEM_TX: [&str; 9] =
    ["consultations/", "db/", "directory/", "endpoints/", "inbox/", "jobs/", "matrix/", "sources/", "sync/"];
/// The doors without a tenant.
const DOORS: [&str; 6] =
    ["SystemTx", "SystemConnection", "SystemLink", "system_tx(", "database.system(", "system_link("];
/// Where SQL may stand besides a `store.rs`.
const SQL: [&str; 4] = ["db/", "http/idempotency.rs", "demo/database.rs", "testing/"];
/// A file longer than this doesn't fit in the head: split it by meaning.
const MOST_LINES: usize = 700;

fn source() -> std::path::PathBuf {
    root().join("orchestrator/src")
}

/// The orchestrator's files: path below `src`, and text.
fn orchestrator() -> Vec<(String, String)> {
    let source = source();
    files(&source, ".rs")
        .into_iter()
        .map(|path| {
            (
                path.strip_prefix(&source).unwrap().to_string_lossy().into_owned(),
                std::fs::read_to_string(&path).unwrap(),
            )
        })
        .collect()
}

fn is_in(path: &str, folders: &[&str]) -> bool {
    folders.iter().any(|folder| path == *folder || (folder.ends_with('/') && path.starts_with(folder)))
}

/// Whether a line of code names `crate::name`, alone or in a list of imports.
fn names_module(text: &str, name: &str) -> bool {
    let code: String =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    if code.contains(&format!("crate::{name}::")) || code.contains(&format!("crate::{name};")) {
        return true;
    }
    // `use crate::{…}`: the list's own entries, at any depth of its first level.
    code.split("use crate::{").skip(1).any(|rest| {
        let mut depth = 0;
        let mut entry = String::new();
        for letter in rest.chars() {
            match letter {
                '{' => depth += 1,
                '}' if depth == 0 => {
                    return entry.trim() == name || entry.trim().starts_with(&format!("{name}::"));
                }
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    if entry.trim() == name || entry.trim().starts_with(&format!("{name}::")) {
                        return true;
                    }
                    entry.clear();
                    continue;
                }
                _ => {}
            }
            if depth == 0 {
                entry.push(letter);
            }
        }
        false
    })
}

#[test]
fn imports_are_recognised() {
    assert!(names_module("use crate::approvals::Approval;", "approvals"));
    assert!(names_module(
        "use crate::{\n    app::AppState,\n    approvals::{self, Approval},\n};",
        "approvals"
    ));
    assert!(names_module("use crate::{app::AppState, approvals};", "approvals"));
    assert!(!names_module("use crate::{app::AppState, http::{approvals::X}};", "approvals"));
    assert!(!names_module("// crate::approvals::Approval", "approvals"));
}

#[test]
fn the_kernel_imports_no_slice() {
    let mut violations = Vec::new();
    for (path, text) in orchestrator() {
        let of_a_slice = SLICES.iter().any(|slice| path.starts_with(&format!("{slice}/")));
        if of_a_slice || is_in(&path, &COMPOSITION) || is_in(&path, &ABOVE) {
            continue;
        }
        violations.extend(
            SLICES
                .iter()
                .filter(|slice| names_module(&text, slice))
                .map(|slice| format!("{path} imports {slice}")),
        );
    }
    assert_none("the kernel imports a slice", &violations);
}

#[test]
fn slices_meet_only_through_their_mod() {
    let mut violations = Vec::new();
    for (path, text) in orchestrator() {
        for slice in SLICES {
            if path.starts_with(&format!("{slice}/")) {
                continue;
            }
            for inside in ["store", "service", "model", "routes", "jobs"] {
                if text.contains(&format!("crate::{slice}::{inside}"))
                    || text.contains(&format!("{slice}::{inside}::"))
                {
                    violations.push(format!("{path} reaches into {slice}::{inside}"));
                }
            }
        }
    }
    for slice in SLICES {
        let text = std::fs::read_to_string(source().join(slice).join("mod.rs")).unwrap();
        if text.contains("pub mod store") || text.contains("pub(crate) mod store") {
            violations.push(format!("{slice}'s store is not private"));
        }
    }
    assert_none("a slice is reached around its mod.rs", &violations);
}

#[test]
fn sql_stands_only_in_stores_and_in_the_kernel_of_the_database() {
    let mut violations = Vec::new();
    for (path, text) in orchestrator() {
        // A store, or a slice's tests.
        let is_store =
            Path::new(&path).file_name().is_some_and(|name| name == "store.rs" || name == "tests.rs");
        if !is_store && !is_in(&path, &SQL) && text.contains("sqlx::query") {
            violations.push(path);
        }
    }
    assert_none("SQL outside a store", &violations);
}

#[test]
fn only_these_may_name_the_door_without_a_tenant() {
    let mut violations = Vec::new();
    for (path, text) in orchestrator() {
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let names = code.into_iter().any(|line| DOORS.iter().any(|door| line.contains(door)));
        if names && !is_in(&path, &SYSTEM_TX) && !path.starts_with("testing/") {
            violations.push(path);
        }
    }
    assert_none("a door without a tenant is named", &violations);
}

#[test]
fn no_query_asks_for_all_columns() {
    let stars: Vec<String> = orchestrator()
        .into_iter()
        .filter(|(_, text)| text.contains("SELECT *") || text.contains("RETURNING *"))
        .map(|(path, _)| path)
        .collect();
    assert_none("SELECT *", &stars);
}

#[test]
fn files_fit_in_the_head() {
    let long: Vec<String> = files(&root(), ".rs")
        .iter()
        .filter_map(|path| {
            let lines = std::fs::read_to_string(path).unwrap().lines().count();
            (lines > MOST_LINES).then(|| format!("{}: {lines} lines", shown(path)))
        })
        .collect();
    assert_none("too long for one file", &long);
}
