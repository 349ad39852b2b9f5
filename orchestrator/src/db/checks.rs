use sqlx::PgPool;

/// A login that row-level security doesn't hold, or not surely.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// A superuser, or one that bypasses row-level security.
    #[error(
        "the login {0} is a superuser or may bypass row-level security; serve with one that is neither (`chancery migrate` makes them)"
    )]
    BypassesRowLevelSecurity(String),
    /// An owner may change the policies.
    #[error(
        "the login {0} owns tables and could change their policies; serve with one that owns nothing (`chancery migrate` makes them)"
    )]
    OwnsTables(String),
    /// There is no schema, or an older one.
    #[error("the database has not been migrated; run `chancery migrate`")]
    NotMigrated,
}

/// Checks that the pool's login owns nothing and is subject to row-level security, and that the schema is there.
///
/// # Errors
/// Where the database can't be asked.
pub async fn check_login(pool: &PgPool) -> Result<Result<(), LoginError>, sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT current_user::text AS "login!",
                  (SELECT bool_or(rolsuper OR rolbypassrls) FROM pg_roles WHERE pg_has_role(current_user, oid, 'MEMBER')) AS "bypasses!",
                  EXISTS (SELECT 1 FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
                          AND pg_has_role(current_user, relowner, 'MEMBER')) AS "owns!",
                  to_regclass('public.approvals') IS NOT NULL AS "migrated!""#
    )
    .fetch_one(pool)
    .await?;
    Ok(if row.bypasses {
        Err(LoginError::BypassesRowLevelSecurity(row.login))
    } else if row.owns {
        Err(LoginError::OwnsTables(row.login))
    } else if !row.migrated {
        Err(LoginError::NotMigrated)
    } else {
        Ok(())
    })
}
