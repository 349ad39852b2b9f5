//! What the database's errors mean for what was being done.

/// The SQLSTATE, where the database has said something.
fn code(error: &sqlx::Error) -> Option<std::borrow::Cow<'_, str>> {
    error.as_database_error().and_then(sqlx::error::DatabaseError::code)
}

/// Whether the connection is of no more use: it isn't known whether what was sent had an effect.
pub(super) fn is_connection(error: &sqlx::Error) -> bool {
    match code(error) {
        // Class 08, connection exception; 57P, the server goes away.
        Some(code) => code.starts_with("08") || code.starts_with("57P"),
        None => !matches!(error, sqlx::Error::RowNotFound | sqlx::Error::Encode(_)),
    }
}

/// Whether it may well work a moment later: a lost connection, or class 40, transaction rollback (a deadlock).
pub(super) fn is_passing(error: &sqlx::Error) -> bool {
    is_connection(error) || code(error).is_some_and(|code| code.starts_with("40"))
}

/// Whether one row among several is to blame: class 22, data exception; 23, a constraint; 54, a limit.
pub(super) fn is_of_the_row(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Encode(_))
        || code(error).is_some_and(|code| ["22", "23", "54"].iter().any(|class| code.starts_with(class)))
}

/// Whether there is such a row already: 23505, unique violation.
pub(super) fn is_known(error: &sqlx::Error) -> bool {
    code(error).is_some_and(|code| code == "23505")
}

/// Whether the day of a row has no partition.
pub(super) fn is_missing_partition(error: &sqlx::Error) -> bool {
    code(error).is_some_and(|code| code == "23514")
        && error.as_database_error().is_some_and(|error| error.constraint().is_none())
}

/// What PostgreSQL refuses to hold, it refuses the next time too.
pub(super) fn is_poison(error: &sqlx::Error) -> bool {
    code(error).is_some_and(|code| code.starts_with("22"))
}
