use crate::{assert_none, files, root, shown};

/// The targets of a Markdown text's links.
fn links(text: &str) -> Vec<&str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect()
}

#[test]
fn every_link_in_a_document_leads_to_a_file() {
    let mut broken = Vec::new();
    for path in files(&root(), ".md") {
        let text = std::fs::read_to_string(&path).unwrap();
        for link in links(&text) {
            let target = link.split('#').next().unwrap();
            if target.is_empty() || target.contains("://") || target.contains(char::is_whitespace) {
                continue;
            }
            if !path.parent().unwrap().join(target).exists() {
                broken.push(format!("{}: {link}", shown(&path)));
            }
        }
    }
    assert_none("links that lead nowhere", &broken);
}

#[test]
fn the_table_of_permissions_in_the_documents_is_the_codes() {
    use chancery::auth::{Permission, Role};
    let text = std::fs::read_to_string(root().join("docs/SECURITY.md")).unwrap();
    for permission in Permission::ALL.iter().copied() {
        let name = permission.as_str();
        let row = text.lines().find(|line| line.starts_with(&format!("| `{name}`")));
        let row = row.unwrap_or_else(|| panic!("docs/SECURITY.md has no row for {name}"));
        let cells: Vec<bool> =
            row.trim_matches('|').split('|').skip(1).map(|cell| cell.trim() == "●").collect();
        let granted = Role::ALL.into_iter().map(|role| role.grants(permission));
        let expected: Vec<bool> = granted.chain([permission.is_of_platform()]).collect();
        assert_eq!(cells, expected, "docs/SECURITY.md: {name}");
    }
    let rows = text.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(rows, Permission::ALL.len(), "docs/SECURITY.md has a row of no permission");
}

/// A permission that no code asks for guards nothing, and the table says so.
#[test]
fn the_table_of_permissions_says_which_guard_nothing_yet() {
    use chancery::auth::Permission;
    let text = std::fs::read_to_string(root().join("docs/SECURITY.md")).unwrap();
    let source: String = files(&root().join("orchestrator/src"), ".rs")
        .into_iter()
        .filter(|path| !path.ends_with("auth/policy.rs"))
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    let mut wrong = Vec::new();
    for permission in Permission::ALL {
        let is_asked_for = source.contains(&format!("Permission::{permission:?}"));
        let row = text.lines().find(|line| line.starts_with(&format!("| `{}`", permission.as_str())));
        if row.is_some_and(|row| row.contains('◌')) == is_asked_for {
            wrong.push(format!(
                "{} {}",
                permission.as_str(),
                if is_asked_for { "is there" } else { "is not there" }
            ));
        }
    }
    assert_none("docs/SECURITY.md is wrong about what guards something", &wrong);
}

#[test]
fn the_description_of_the_api_is_up_to_date() {
    let committed = std::fs::read_to_string(root().join("docs/openapi.json"))
        .expect("docs/openapi.json; `cargo xtask openapi` writes it");
    assert!(
        committed == chancery::http::openapi::json().unwrap(),
        "docs/openapi.json is old; `cargo xtask openapi` renews it"
    );
}
