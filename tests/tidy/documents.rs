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
    for permission in Permission::ALL {
        let row = text.lines().find(|line| line.starts_with(&format!("| `{}`", permission.as_str())));
        let row = row.unwrap_or_else(|| panic!("docs/SECURITY.md has no row for {}", permission.as_str()));
        let cells: Vec<&str> = row.trim_matches('|').split('|').skip(1).map(str::trim).collect();
        for (role, cell) in Role::ALL.into_iter().zip(cells) {
            assert_eq!(
                cell == "●",
                role.grants(permission),
                "docs/SECURITY.md: {} for {}",
                permission.as_str(),
                role.as_str()
            );
        }
    }
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
