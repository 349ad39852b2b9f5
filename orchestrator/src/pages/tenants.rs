use axum::{extract::State, http::StatusCode};
use serde::Deserialize;
use shell_ui::pages::{Membership, TenantsPage};

use super::{
    PageResult,
    chrome::{Place, base, home, kind},
    page,
};
use crate::{
    app::AppState,
    auth::{Grant, TenantKind, Visitor},
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
    let found = grants.iter().filter(|grant| is_like(grant, &query.q)).map(membership).collect();
    let shown = TenantsPage {
        chrome,
        all: u64::try_from(grants.len()).unwrap_or(u64::MAX),
        search: query.q,
        tenants: found,
    };
    page(StatusCode::OK, &shown)
}

/// Whether each word is somewhere in the name or the path.
fn is_like(grant: &Grant, search: &str) -> bool {
    let text = format!("{} {}", grant.tenant.name, grant.tenant.path).to_lowercase();
    search.to_lowercase().split_whitespace().all(|word| text.contains(word))
}

/// A tenant with the visitor's roles in it.
pub(super) fn membership(grant: &Grant) -> Membership {
    let is_own = grant.tenant.kind == TenantKind::Individual;
    Membership {
        name: grant.tenant.name.clone(),
        kind: kind(grant.tenant.kind),
        path: if is_own { String::new() } else { grant.tenant.path.clone() },
        roles: grant.roles.iter().map(|role| role.as_str().to_owned()).collect(),
        href: base(grant.tenant.id),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use uuid::Uuid;

    use super::*;
    use crate::{auth::TenantRef, ids::TenantId};

    #[test]
    fn a_tenant_is_found_by_words_of_its_name_or_path() {
        let tenant = TenantRef {
            id: TenantId(Uuid::from_u128(1)),
            kind: TenantKind::Organization,
            path: "/organizations/acme-corp".into(),
            name: "Äcme Corporation".into(),
        };
        let grant = Grant { tenant, roles: BTreeSet::new() };
        for search in ["", "  ", "äcme", "ACME-CORP", "corporation äcme", "organizations"] {
            assert!(is_like(&grant, search), "{search:?}");
        }
        for search in ["globex", "äcme globex"] {
            assert!(!is_like(&grant, search), "{search:?}");
        }
    }
}
