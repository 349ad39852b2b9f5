//! `.sqlx`: what the compiler knows of each SQL query, so that it builds without a database.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use local_postgres::{LocalPostgres, Options};
use sqlx::migrate::Migrator;
use sqlx::{Connection, PgConnection};

use crate::shell;

/// The database that the queries are checked against.
const DATABASE: &str = "chancery_queries";

/// What to do with `.sqlx`.
#[derive(Clone, Copy, Debug, clap::Subcommand)]
pub(crate) enum Action {
    /// Check every query against a new database with all migrations, and write .sqlx
    Prepare,
    /// The same, but only compare; fails if .sqlx isn't up to date
    Check,
}

/// Carries out the action.
pub(crate) async fn run(action: Action) -> Result<()> {
    let committed = shell::root().join(".sqlx");
    let described = describe().await?;
    match action {
        Action::Prepare => write(&committed, &described),
        Action::Check => {
            let differences = differences(&read(&committed)?, &described);
            if !differences.is_empty() {
                bail!(".sqlx is not up to date; run `cargo xtask sqlx prepare`:\n{}", differences.join("\n"));
            }
            eprintln!(".sqlx is up to date ({} queries)", described.len());
            Ok(())
        }
    }
}

/// File names and contents.
type Described = BTreeMap<String, String>;

/// Compiles every query against a new database.
async fn describe() -> Result<Described> {
    let server = LocalPostgres::start(Options::ephemeral()?).await?;
    let described = async {
        let url = server.connection_options().url(DATABASE);
        migrate(&server.superuser_url(), &url).await?;
        let directory = tempfile::tempdir()?;
        touch_queries()?;
        let mut command = shell::cargo(&["check", "--workspace", "--all-targets", "--all-features"]);
        command
            .env("DATABASE_URL", url)
            .env("SQLX_OFFLINE", "false")
            .env("SQLX_OFFLINE_DIR", directory.path());
        shell::run(&mut command)?;
        read(directory.path())
    };
    let described = described.await;
    server.stop().await?;
    // Whoever builds next must not find what was compiled with a database that is gone to be fresh.
    touch_queries()?;
    described
}

/// Makes the database with all migrations in it.
async fn migrate(superuser_url: &str, url: &str) -> Result<()> {
    let mut superuser = PgConnection::connect(superuser_url).await?;
    for statement in [
        format!("CREATE DATABASE {DATABASE}"),
        format!("CREATE ROLE {DATABASE}_app NOLOGIN"),
        format!("CREATE ROLE {DATABASE}_worker NOLOGIN"),
    ] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut superuser).await?;
    }
    superuser.close().await?;

    let mut connection = PgConnection::connect(url).await?;
    // The policies name the roles; migrations/README.md.
    for kind in ["app", "worker"] {
        let statement = format!("SET chancery.{kind}_role = '{DATABASE}_{kind}'");
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await?;
    }
    let migrator = Migrator::new(shell::root().join("migrations")).await?;
    migrator.run(&mut connection).await.context("the migrations could not be applied")?;
    connection.close().await?;
    Ok(())
}

/// Makes cargo compile again what has queries: macros are expanded only when a file of their crate changes.
fn touch_queries() -> Result<()> {
    #[expect(clippy::disallowed_methods, reason = "cargo compares the files' times with the real ones")]
    let now = std::time::SystemTime::now();
    for file in files_with_queries(&shell::root())? {
        let touched =
            std::fs::File::options().write(true).open(&file).and_then(|opened| opened.set_modified(now));
        touched.with_context(|| format!("could not touch {}", file.display()))?;
    }
    Ok(())
}

/// The Rust files that use sqlx's checked macros.
fn files_with_queries(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut pending = vec![root.to_path_buf()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(&directory)? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            let name = entry.file_name();
            let name = name.to_string_lossy();
            // This crate has no queries of that kind, only their names.
            let others = ["target", "node_modules", "xtask"];
            if kind.is_dir() && !name.starts_with('.') && !others.contains(&&*name) {
                pending.push(path);
            } else if kind.is_file() && path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path)?;
                if MACROS.iter().any(|name| text.contains(&format!("{name}!"))) {
                    found.push(path);
                }
            }
        }
    }
    found.sort();
    Ok(found)
}

const MACROS: [&str; 6] =
    ["query", "query_as", "query_scalar", "query_file", "query_file_as", "query_file_scalar"];

/// The descriptions in `directory`, none if it doesn't exist.
fn read(directory: &Path) -> Result<Described> {
    let mut described = Described::new();
    if !directory.exists() {
        return Ok(described);
    }
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("query-") {
            described.insert(name, std::fs::read_to_string(entry.path())?);
        }
    }
    Ok(described)
}

/// Makes `directory` hold exactly these descriptions.
fn write(directory: &Path, described: &Described) -> Result<()> {
    std::fs::create_dir_all(directory)?;
    let before = read(directory)?;
    for name in before.keys().filter(|name| !described.contains_key(*name)) {
        std::fs::remove_file(directory.join(name))?;
    }
    for (name, text) in described.iter().filter(|(name, text)| before.get(*name) != Some(*text)) {
        std::fs::write(directory.join(name), text)?;
    }
    eprintln!("wrote .sqlx: {} queries; {} changes", described.len(), differences(&before, described).len());
    Ok(())
}

/// A line for each description that one side lacks or that differs.
fn differences(committed: &Described, described: &Described) -> Vec<String> {
    let removed = committed
        .keys()
        .filter(|name| !described.contains_key(*name))
        .map(|name| format!("  not used any more: {name}"));
    let changed = described.iter().filter_map(|(name, text)| match committed.get(name) {
        None => Some(format!("  new: {name}")),
        Some(before) if before != text => Some(format!("  changed: {name}")),
        Some(_) => None,
    });
    removed.chain(changed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(entries: &[(&str, &str)]) -> Described {
        entries.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn a_missing_a_changed_and_an_unused_query_are_differences() {
        let committed =
            described(&[("query-1.json", "same"), ("query-2.json", "old"), ("query-3.json", "gone")]);
        let now = described(&[("query-1.json", "same"), ("query-2.json", "new"), ("query-4.json", "more")]);
        assert_eq!(
            differences(&committed, &now),
            ["  not used any more: query-3.json", "  changed: query-2.json", "  new: query-4.json"]
        );
        assert!(differences(&committed, &committed).is_empty());
    }

    #[test]
    fn writing_leaves_exactly_what_is_described() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().join(".sqlx");
        write(&directory, &described(&[("query-1.json", "one"), ("query-2.json", "two")])).unwrap();
        let now = described(&[("query-2.json", "changed")]);
        write(&directory, &now).unwrap();
        assert_eq!(read(&directory).unwrap(), now);
    }

    #[test]
    fn files_that_use_the_macros_are_found() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("target")).unwrap();
        for (name, text) in [
            ("store.rs", "sqlx::query_as!(Row, \"SELECT 1\")"),
            ("plain.rs", "sqlx::query(\"SELECT 1\")"),
            ("target/built.rs", "sqlx::query!(\"SELECT 1\")"),
        ] {
            std::fs::write(root.path().join(name), text).unwrap();
        }
        assert_eq!(files_with_queries(root.path()).unwrap(), [root.path().join("store.rs")]);
    }

    #[tokio::test]
    async fn every_migration_applies_to_an_empty_database() {
        let server = LocalPostgres::start(Options::ephemeral().unwrap()).await.unwrap();
        migrate(&server.superuser_url(), &server.connection_options().url(DATABASE)).await.unwrap();
        server.stop().await.unwrap();
    }
}
