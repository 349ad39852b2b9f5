//! Keycloak's group tree as tenants and roles.

use connector_core::ConnectorError;
use connector_keycloak::{Group, KeycloakAdmin, User};
use uuid::Uuid;

use crate::{
    auth::{Role, TenantKind, TenantRef},
    ids::TenantId,
};

/// Not the path of a tenant or of something below one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the group belongs to no tenant")]
pub struct TreeError;

/// Where a group stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// What the tenant is.
    pub kind: TenantKind,
    /// The path of the tenant's group.
    pub tenant_path: String,
    /// How many levels the group is below the tenant's.
    pub depth: usize,
    /// What belonging to the group gives.
    pub role: Role,
}

impl Place {
    /// Reads a group's path: `/teams/x` and `/organizations/x` are tenants, `/organizations/x/approvers` gives a role in one,
    /// and any other group below makes a member.
    ///
    /// # Errors
    /// [`TreeError`] for groups that have nothing to do with tenants.
    pub fn of(path: &str) -> Result<Self, TreeError> {
        let segments: Vec<&str> = path.strip_prefix('/').ok_or(TreeError)?.split('/').collect();
        let (kind, below) = match segments.as_slice() {
            ["teams", name, below @ ..] if !name.is_empty() => (TenantKind::Team, below),
            ["organizations", name, below @ ..] if !name.is_empty() => (TenantKind::Organization, below),
            _ => return Err(TreeError),
        };
        let role = match below {
            [name] => Role::from_group_name(name).unwrap_or(Role::Member),
            _ => Role::Member,
        };
        Ok(Self { kind, tenant_path: format!("/{}/{}", segments[0], segments[1]), depth: below.len(), role })
    }
}

/// The name to show: the attribute `displayName`, else the last segment in title case.
fn display_name(group: &Group) -> String {
    let attribute =
        group.attributes.get("displayName").and_then(|values| values.first()).map(|name| name.trim());
    match attribute {
        Some(name) if !name.is_empty() => name.chars().take(255).collect(),
        _ => title_case(&group.name),
    }
}

fn title_case(name: &str) -> String {
    let words = name.split(['-', '_', ' ']).filter(|word| !word.is_empty()).map(|word| {
        let mut letters = word.chars();
        letters
            .next()
            .map(|first| first.to_uppercase().chain(letters).collect::<String>())
            .unwrap_or_default()
    });
    let title = words.collect::<Vec<_>>().join(" ");
    if title.is_empty() { name.to_owned() } else { title }
}

/// Whether the path says where the group stands: a name with a slash in it would read as a level of its own.
pub(super) fn is_plain(group: &Group) -> bool {
    !group.name.contains('/') && group.path.ends_with(&format!("/{}", group.name))
}

fn tenant_ref(group: &Group, kind: TenantKind) -> TenantRef {
    TenantRef { id: TenantId(group.id), kind, path: group.path.clone(), name: display_name(group) }
}

/// The tenant of a group that somebody belongs to. None where a name above it has a slash in it: its path then says nothing.
pub(super) async fn tenant_group(
    keycloak: &KeycloakAdmin,
    group: &Group,
    place: &Place,
) -> Result<Option<TenantRef>, ConnectorError> {
    // The tree is being changed under our eyes.
    let changing = |message: &'static str| {
        ConnectorError::new(connector_core::ErrorKind::Transient, "keycloak", message)
    };
    let mut found = group.clone();
    for _ in 0..place.depth {
        let parent = match found.parent_id {
            Some(parent) => keycloak.group(parent).await?,
            None => keycloak.group_by_path(&place.tenant_path).await?,
        };
        let by_path = found.parent_id.is_none();
        found = parent.ok_or_else(|| changing("a group's parent can't be found"))?;
        if !is_plain(&found) {
            tracing::warn!(
                group = %group.path,
                "a group is left out: the name of one above it has a slash in it"
            );
            return Ok(None);
        }
        if by_path {
            break;
        }
    }
    if found.path != place.tenant_path {
        return Err(changing("a group's parent is not where its path says"));
    }
    Ok(Some(tenant_ref(&found, place.kind)))
}

/// A tenant as read completely from Keycloak.
pub(super) struct TenantTree {
    pub tenant: TenantRef,
    /// Who belongs to which group of the tenant, and the role that this gives.
    pub members: Vec<(User, Uuid, Role)>,
}

/// Reads a tenant's group, all groups below it and their members. None where there is no such group any more.
pub(super) async fn read_tenant(
    keycloak: &KeycloakAdmin,
    tenant: TenantId,
) -> Result<Option<TenantTree>, ConnectorError> {
    let Some(root) = keycloak.group(tenant.0).await? else { return Ok(None) };
    let Ok(place) = Place::of(&root.path) else { return Ok(None) };
    if place.depth != 0 || !is_plain(&root) {
        return Ok(None);
    }
    let tenant = tenant_ref(&root, place.kind);
    let mut members = Vec::new();
    let mut pending = vec![root];
    while let Some(group) = pending.pop() {
        let role = Place::of(&group.path).map_or(Role::Member, |place| place.role);
        for user in keycloak.group_members(group.id).await? {
            members.push((user, group.id, role));
        }
        pending.extend(keycloak.group_children(group.id).await?.into_iter().filter(is_plain));
    }
    Ok(Some(TenantTree { tenant, members }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_tenant_and_role() {
        let place = |path: &str| Place::of(path).map(|place| (place.tenant_path, place.depth, place.role));
        assert_eq!(place("/organizations/acme"), Ok(("/organizations/acme".into(), 0, Role::Member)));
        assert_eq!(
            place("/organizations/acme/approvers"),
            Ok(("/organizations/acme".into(), 1, Role::Approver))
        );
        assert_eq!(place("/teams/x/owners"), Ok(("/teams/x".into(), 1, Role::Owner)));
        assert_eq!(place("/teams/x/guild"), Ok(("/teams/x".into(), 1, Role::Member)));
        // Only the direct sub-group of that name gives the role.
        assert_eq!(place("/teams/x/guild/owners"), Ok(("/teams/x".into(), 2, Role::Member)));
        for path in ["/teams", "/teams/", "/other/x", "teams/x", ""] {
            assert_eq!(Place::of(path), Err(TreeError), "{path}");
        }
    }

    #[test]
    fn a_name_is_made_of_the_last_segment() {
        assert_eq!(title_case("acme-corp"), "Acme Corp");
        assert_eq!(title_case("élan_vital"), "Élan Vital");
        assert_eq!(title_case("---"), "---");
    }
}
