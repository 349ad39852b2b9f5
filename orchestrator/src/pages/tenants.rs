use axum::{extract::State, http::StatusCode};
use serde::Deserialize;
use shell_ui::pages::{Membership, TenantsPage};

use super::{
    PageResult,
    chrome::{Place, base, home, kind, tenant_name},
    page,
};
use crate::{
    app::AppState,
    auth::{Grant, Principal, TenantKind, Visitor},
    http::{Problem, extract::ApiQuery},
};

#[derive(Debug, Deserialize)]
pub(super) struct Query {
    #[serde(default)]
    q: String,
}

/// All tenants of the visitor, for whoever has more than a menu holds.
pub(super) async fn list(
    State(state): State<AppState>,
    visitor: Visitor,
    ApiQuery(query): ApiQuery<Query>,
) -> PageResult {
    let tenant = home(&visitor, visitor.session.last_tenant).cloned().ok_or_else(Problem::forbidden)?;
    let place = Place { visitor, tenant };
    let mut tx = place.begin(&state).await?;
    let chrome = place.chrome(&state, &mut tx, "", None).await?;
    let grants = &place.visitor.grants;
    let memberships = grants.iter().map(|grant| membership(&place.visitor, grant));
    let found = memberships.filter(|membership| is_like(membership, &query.q)).collect();
    let shown = TenantsPage {
        chrome,
        all: u64::try_from(grants.len()).unwrap_or(u64::MAX),
        search: query.q,
        tenants: found,
    };
    page(StatusCode::OK, &shown)
}

/// Whether each word is somewhere in the name or the path.
fn is_like(membership: &Membership, search: &str) -> bool {
    let text = format!("{} {}", membership.name, membership.path).to_lowercase();
    search.to_lowercase().split_whitespace().all(|word| text.contains(word))
}

/// A tenant with the visitor's roles in it.
pub(super) fn membership(principal: &Principal, grant: &Grant) -> Membership {
    let is_own = grant.tenant.kind == TenantKind::Individual;
    Membership {
        name: tenant_name(principal, &grant.tenant),
        kind: kind(grant.tenant.kind),
        path: if is_own { String::new() } else { grant.tenant.path.clone() },
        roles: grant.roles.iter().map(|role| role.as_str().to_owned()).collect(),
        href: base(grant.tenant.id),
    }
}

#[cfg(test)]
mod tests {
    use shell_ui::TenantKind;

    use super::{Membership, is_like};

    #[test]
    fn a_tenant_is_found_by_words_of_its_name_or_path() {
        let membership = Membership {
            name: "Äcme Corporation".into(),
            kind: TenantKind::Organization,
            path: "/organizations/acme-corp".into(),
            roles: Vec::new(),
            href: String::new(),
        };
        for search in ["", "  ", "äcme", "ACME-CORP", "corporation äcme", "organizations"] {
            assert!(is_like(&membership, search), "{search:?}");
        }
        for search in ["globex", "äcme globex"] {
            assert!(!is_like(&membership, search), "{search:?}");
        }
    }
}
