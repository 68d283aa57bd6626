//! The meaning of a PostgreSQL server's errors.

use std::{error::Error, io};

use tokio_postgres::error::{DbError, SqlState};

use crate::{
    fact::{ProbeFailure, ProbeOutcome},
    probe::failure::Failure,
};

/// A server that turns us away, and us alone.
const ABOUT_US: [SqlState; 5] = [
    SqlState::INVALID_PASSWORD,
    SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
    SqlState::INVALID_CATALOG_NAME,
    SqlState::INSUFFICIENT_PRIVILEGE,
    // The database takes no connections (`ALTER DATABASE … ALLOW_CONNECTIONS false`).
    SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
];

/// The server ended the session: at an administrator's request, after another backend's crash, or at its limit.
const ENDED: [SqlState; 3] =
    [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT];

/// What an error of a run means.
pub(super) fn classify(
    error: &tokio_postgres::Error,
    peer: &str,
    auth_is_alive: bool,
) -> Result<ProbeOutcome, Failure> {
    let Some(server) = error.as_db_error() else {
        if lacks_password(error) {
            if auth_is_alive {
                return Ok(ProbeOutcome::Ok);
            }
            let text = format!("{peer} asks for a password, and none is given");
            return Err(Failure::new(ProbeFailure::Auth, text));
        }
        return Err(if error.is_closed() {
            Failure::io(&io::ErrorKind::UnexpectedEof.into(), peer)
        } else {
            Failure::chain(error, peer)
        });
    };
    match meaning(server.code(), server.message()) {
        Meaning::Starting => Ok(ProbeOutcome::Starting(server.message().to_owned())),
        Meaning::Failed(ProbeFailure::Auth) if auth_is_alive => Ok(ProbeOutcome::Ok),
        Meaning::Failed(kind) => Err(Failure::new(kind, format!("{peer} answered {}", words_of(server)))),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    Starting,
    Failed(ProbeFailure),
}

fn meaning(code: &SqlState, message: &str) -> Meaning {
    Meaning::Failed(if *code == SqlState::CANNOT_CONNECT_NOW {
        return cannot_connect_now(message);
    } else if *code == SqlState::TOO_MANY_CONNECTIONS || message.contains("no more connections allowed") {
        // The words are PgBouncer's, which has a code of its own for them only since version 1.21.
        ProbeFailure::TooManyConnections
    } else if ABOUT_US.contains(code) {
        ProbeFailure::Auth
    } else if ENDED.contains(code) {
        ProbeFailure::Reset
    } else {
        ProbeFailure::Protocol
    })
}

/// 57P03: the server starts, recovers, or ends. Only its message distinguishes them, and it follows `lc_messages`. An
/// unknown message counts as a start, which is by far the most frequent.
fn cannot_connect_now(message: &str) -> Meaning {
    if message.contains("shutting down") {
        Meaning::Failed(ProbeFailure::Reset)
    } else if message.ends_with("is not accepting connections") {
        // A standby that serves no clients (`hot_standby = off`).
        Meaning::Failed(ProbeFailure::Auth)
    } else {
        Meaning::Starting
    }
}

/// The server's words for an error.
pub(super) fn words(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), words_of)
}

fn words_of(server: &DbError) -> String {
    format!("{}: {} (SQLSTATE {})", server.severity(), server.message(), server.code().code())
}

/// Whether the server asked for a password that we do not have, which the client notices by itself.
fn lacks_password(error: &tokio_postgres::Error) -> bool {
    // This error has no type or kind of its own.
    error.source().is_some_and(|cause| cause.to_string() == "password missing")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: &str, message: &str) -> Meaning {
        meaning(&SqlState::from_code(code), message)
    }

    #[test]
    fn the_message_explains_cannot_connect_now() {
        for starting in [
            "the database system is starting up",
            "the database system is in recovery mode",
            "the database system is not yet accepting connections",
            "das Datenbanksystem startet",
        ] {
            assert_eq!(of("57P03", starting), Meaning::Starting, "{starting}");
        }
        let ending = of("57P03", "the database system is shutting down");
        assert_eq!(ending, Meaning::Failed(ProbeFailure::Reset));
        let standby = of("57P03", "the database system is not accepting connections");
        assert_eq!(standby, Meaning::Failed(ProbeFailure::Auth));
    }

    #[test]
    fn codes_show_which_side_is_at_fault() {
        for (code, message, failure) in [
            ("53300", "sorry, too many clients already", ProbeFailure::TooManyConnections),
            ("08P01", "no more connections allowed (max_client_conn)", ProbeFailure::TooManyConnections),
            ("57P01", "terminating connection due to administrator command", ProbeFailure::Reset),
            ("57P02", "terminating connection because of crash of another process", ProbeFailure::Reset),
            ("28P01", "password authentication failed", ProbeFailure::Auth),
            ("3D000", "database \"x\" does not exist", ProbeFailure::Auth),
            ("42501", "permission denied for database \"x\"", ProbeFailure::Auth),
            ("XX000", "cache lookup failed", ProbeFailure::Protocol),
            // A temporary file that is too long, not a connection too many.
            ("53400", "temporary file size exceeds temp_file_limit", ProbeFailure::Protocol),
        ] {
            assert_eq!(of(code, message), Meaning::Failed(failure), "{code} {message}");
        }
    }
}
