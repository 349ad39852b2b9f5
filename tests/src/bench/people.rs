//! The tenants of the benchmarks and who is in them: they stand in the realm of Keycloak's double, and the server learns them
//! from there. Their ids are fixed, because pgbench's scripts compute them.

use std::time::Duration;

use anyhow::Context as _;
use connector_keycloak::fake::Signature;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{
    client::{Connection, request},
    stage::{Server, Stage},
};

/// So many tenants there are.
pub(crate) const TENANTS: u32 = 100;

/// What a start does in the background (comparing the tenants with Keycloak) is over by then.
const SETTLED: Duration = Duration::from_secs(2);

/// A tenant with somebody who requests; somebody else could decide.
pub(crate) struct Tenant {
    pub id: Uuid,
    /// Who requests.
    pub requester: Uuid,
    /// The access token of who requests.
    pub token: String,
}

fn tenant_id(index: u32) -> Uuid {
    Uuid::from_u128(0x7e00_0000_0000_4000_8000_0000_0000_0000 + u128::from(index))
}

fn group_id(index: u32, approvers: bool) -> Uuid {
    Uuid::from_u128(0x7e01_0000_0000_4000_8000_0000_0000_0000 + u128::from(index) * 2 + u128::from(approvers))
}

fn user_id(index: u32, approver: bool) -> Uuid {
    Uuid::from_u128(0x0500_0000_0000_4000_8000_0000_0000_0000 + u128::from(index) * 2 + u128::from(approver))
}

/// The realm with the tenants added, an agent and an approver in each.
pub(crate) fn realm(realm: &str) -> anyhow::Result<String> {
    let mut realm: Value = serde_json::from_str(realm)?;
    let groups = realm["groups"].as_array_mut().context("the realm has no groups")?;
    let teams = groups.iter_mut().find(|group| group["name"] == "teams").context("the realm has no teams")?;
    let teams = teams["subGroups"].as_array_mut().context("there are no teams")?;
    for index in 0..TENANTS {
        teams.push(json!({
            "id": tenant_id(index),
            "name": format!("bench-{index}"),
            "subGroups": [
                { "id": group_id(index, false), "name": "agents" },
                { "id": group_id(index, true), "name": "approvers" },
            ],
        }));
    }
    let users = realm["users"].as_array_mut().context("the realm has no users")?;
    for index in 0..TENANTS {
        for (approver, role) in [(false, "agent"), (true, "approver")] {
            users.push(json!({
                "id": user_id(index, approver),
                "username": format!("bench-{role}-{index}"),
                "enabled": true,
                "groups": [format!("/teams/bench-{index}/{role}s")],
            }));
        }
    }
    Ok(realm.to_string())
}

/// Has all tenants' agents ask once, so that the server knows them and their tenants, and lets it settle.
pub(crate) async fn introduce(stage: &Stage, server: &Server) -> anyhow::Result<Vec<Tenant>> {
    let mut connection = Connection::open(server.address).await?;
    let mut tenants = Vec::new();
    for index in 0..TENANTS {
        let username = format!("bench-agent-{index}");
        let token = stage.doubles.keycloak.mint_access_token(
            "chancery-shell",
            &username,
            Map::new(),
            Signature::Valid,
        )?;
        let me = connection.send(&request("GET", "/api/v1/me", &token, "", "")).await?;
        anyhow::ensure!(me.status == 200, "/me of {username}: {}", me.status);
        tenants.push(Tenant { id: tenant_id(index), requester: user_id(index, false), token });
    }
    tokio::time::sleep(SETTLED).await;
    Ok(tenants)
}
