//! What CI does.

use anyhow::{Context, Result};

use crate::{openapi, queries, setup, shell, test};

/// Stops at the first step that fails; the cheap ones come first.
pub(crate) async fn run() -> Result<()> {
    shell::step("formatting", async { shell::run(&mut shell::cargo(&["fmt", "--all", "--", "--check"])) })
        .await?;
    shell::step("setup", async { setup::run() }).await?;
    shell::step("dependencies", async {
        let deny = shell::tool("cargo-deny").context("cargo-deny is missing: cargo xtask setup")?;
        // The advisory database lies elsewhere and needs the network; these three don't.
        shell::run(shell::command(deny).args(["--all-features", "check", "bans", "licenses", "sources"]))
    })
    .await?;
    shell::step("lints", async {
        let arguments = ["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"];
        shell::run(&mut shell::cargo(&arguments))
    })
    .await?;
    shell::step("SQL queries", queries::run(queries::Action::Check)).await?;
    shell::step("API description", async { openapi::run(true) }).await?;
    test::run(&test::Arguments::default()).await
}
