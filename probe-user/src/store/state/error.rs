//! Why the file cannot be used.

use rusqlite::ErrorCode;

#[derive(Debug, thiserror::Error)]
pub(super) enum DatabaseError {
    #[error("{0}")]
    Sql(#[from] rusqlite::Error),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("a newer hostprobe made it (version {found}, this one knows {known}); it stays as it is")]
    Newer { found: usize, known: usize },
}

impl DatabaseError {
    pub(super) fn is_damage(&self) -> bool {
        let code = if let Self::Sql(error) = self { error.sqlite_error_code() } else { None };
        matches!(code, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
    }
}

/// What a row has; None if it is not what this version writes, which costs that row only.
pub(super) fn readable<T>(row: rusqlite::Result<T>) -> Result<Option<T>, DatabaseError> {
    match row {
        Ok(row) => Ok(Some(row)),
        Err(error @ rusqlite::Error::SqliteFailure(..)) => Err(error.into()),
        Err(error) => {
            tracing::warn!("state.db: a row cannot be read, and is left out: {error}");
            Ok(None)
        }
    }
}
