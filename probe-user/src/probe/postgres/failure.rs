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
    match meaning(server.code(), server.message(), server.routine()) {
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

fn meaning(code: &SqlState, message: &str, routine: Option<&str>) -> Meaning {
    Meaning::Failed(if *code == SqlState::CANNOT_CONNECT_NOW {
        return cannot_connect_now(message);
    } else if ABOUT_US.contains(code) {
        ProbeFailure::Auth
    } else if ENDED.contains(code) {
        ProbeFailure::Reset
    } else if *code == SqlState::TOO_MANY_CONNECTIONS {
        if limit_of(routine, message) == Some(Limit::Account) {
            ProbeFailure::AccountLimit
        } else {
            ProbeFailure::TooManyConnections
        }
    } else if code.code().starts_with("08") || routine.is_none() {
        // PostgreSQL names the function that raised an error, and a pooler does not.
        of_pooler(message)
    } else {
        ProbeFailure::Protocol
    })
}

/// A limit below that of the whole server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    Account,
    Database,
}

/// The functions check `CONNECTION LIMIT` of a role and of a database. Their names are the same in every language.
fn limit_of(routine: Option<&str>, message: &str) -> Option<Limit> {
    match routine {
        Some("InitializeSessionUserId") => Some(Limit::Account),
        Some("CheckMyDatabase") => Some(Limit::Database),
        _ if message.contains("for role") || message.contains("max_user") => Some(Limit::Account),
        _ => None,
    }
}

/// Whether a login failed at the limit of its account or its database.
pub(super) fn is_limit(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|error| {
        *error.code() == SqlState::TOO_MANY_CONNECTIONS
            && limit_of(error.routine(), error.message()).is_some()
    })
}

/// A pooler's words and what they mean, the first that fit. PgBouncer has one code for them all, 08P01.
const POOLER_WORDS: [(&str, ProbeFailure); 20] = [
    // It quotes what its server answered.
    ("server login", ProbeFailure::Upstream),
    ("max_user_client_connections", ProbeFailure::AccountLimit),
    ("no more connections allowed", ProbeFailure::TooManyConnections),
    ("client connections exceeded", ProbeFailure::TooManyConnections),
    ("query_wait_timeout", ProbeFailure::TooManyConnections),
    // Odyssey, PgCat, Supavisor, Pgpool-II.
    ("too many", ProbeFailure::TooManyConnections),
    ("could not get connection from the pool", ProbeFailure::TooManyConnections),
    ("max clients reached", ProbeFailure::TooManyConnections),
    ("no such user", ProbeFailure::Auth),
    ("no such database", ProbeFailure::Auth),
    ("auth failed", ProbeFailure::Auth),
    ("authentication failed", ProbeFailure::Auth),
    ("login rejected", ProbeFailure::Auth),
    ("not allowed", ProbeFailure::Auth),
    ("SSL required", ProbeFailure::Auth),
    ("TLS connection required", ProbeFailure::Auth),
    ("certificate required", ProbeFailure::Auth),
    ("config error", ProbeFailure::Auth),
    ("unsupported startup parameter", ProbeFailure::Rejected),
    ("shutting down", ProbeFailure::Reset),
];

fn of_pooler(message: &str) -> ProbeFailure {
    let known = POOLER_WORDS.iter().find(|(words, _)| message.contains(words));
    known.map_or(ProbeFailure::Upstream, |(_, failure)| *failure)
}

/// 57P03: the server starts, recovers, or ends. Only its message distinguishes them, and it follows `lc_messages`. An
/// unknown message counts as a start, which is by far the most frequent.
fn cannot_connect_now(message: &str) -> Meaning {
    if message.contains("shutting down") {
        Meaning::Failed(ProbeFailure::Reset)
    } else {
        // Also a standby that serves no clients until it is promoted (`hot_standby = off`).
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
        meaning(&SqlState::from_code(code), message, Some("errstart"))
    }

    #[test]
    fn the_message_explains_cannot_connect_now() {
        for starting in [
            "the database system is starting up",
            "the database system is in recovery mode",
            "the database system is not yet accepting connections",
            "das Datenbanksystem startet",
            "the database system is not accepting connections",
        ] {
            assert_eq!(of("57P03", starting), Meaning::Starting, "{starting}");
        }
        let ending = of("57P03", "the database system is shutting down");
        assert_eq!(ending, Meaning::Failed(ProbeFailure::Reset));
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

    #[test]
    fn the_limit_of_an_account_differs_from_that_of_the_server() {
        let full = |routine, message| meaning(&SqlState::TOO_MANY_CONNECTIONS, message, routine);
        for (routine, message, failure) in [
            (Some("InitializeSessionUserId"), "zu viele Verbindungen von Rolle", ProbeFailure::AccountLimit),
            (None, "too many connections for role \"probe\"", ProbeFailure::AccountLimit),
            (None, "client connections exceeded (max_user_client_connections)", ProbeFailure::AccountLimit),
            (Some("CheckMyDatabase"), "too many connections for database", ProbeFailure::TooManyConnections),
            (Some("ProcArrayAdd"), "sorry, too many clients already", ProbeFailure::TooManyConnections),
            (
                Some("InitPostgres"),
                "remaining connection slots are reserved",
                ProbeFailure::TooManyConnections,
            ),
        ] {
            assert_eq!(full(routine, message), Meaning::Failed(failure), "{message}");
        }
    }

    #[test]
    fn a_pooler_that_works_is_not_blamed_for_what_is_behind_it() {
        for (code, message, failure) in [
            (
                "08P01",
                "server login failed: FATAL password authentication failed for user \"x\"",
                ProbeFailure::Upstream,
            ),
            (
                "08P01",
                "server login has been failing, try again later (server_login_retry)",
                ProbeFailure::Upstream,
            ),
            ("08P01", "server conn crashed?", ProbeFailure::Upstream),
            ("08P01", "pgbouncer cannot connect to server", ProbeFailure::Upstream),
            ("08006", "odyssey: failed to connect to remote server", ProbeFailure::Upstream),
            ("58000", "AllServersDown", ProbeFailure::Upstream),
            ("08P01", "query_wait_timeout", ProbeFailure::TooManyConnections),
            ("XX000", "MaxClientsInSessionMode: max clients reached", ProbeFailure::TooManyConnections),
            ("08P01", "no such database: orders", ProbeFailure::Auth),
            ("08P01", "unsupported startup parameter: extra_float_digits", ProbeFailure::Rejected),
        ] {
            let meaning = meaning(&SqlState::from_code(code), message, None);
            assert_eq!(meaning, Meaning::Failed(failure), "{message}");
        }
    }
}
