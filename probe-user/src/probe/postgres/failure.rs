//! The meaning of a PostgreSQL server's errors.

use std::{error::Error, io};

use tokio_postgres::error::{DbError, SqlState};

use crate::{
    fact::{ProbeFailure, ProbeOutcome},
    probe::failure::Failure,
};

/// What codes and classes of codes mean, the first that fit. A server that answers with an error is alive, so that any other
/// code is one that it refuses the probe with.
const CODES: [(&str, ProbeFailure); 26] = {
    use ProbeFailure::{Auth, Busy, MemoryFull, Protocol, Rejected, Reset, Storage};

    [
        // The server turns us away: the account, its password, the database, a right.
        ("28", Auth),
        ("3D", Auth),
        ("42501", Auth),
        // The database takes no connections (`ALTER DATABASE … ALLOW_CONNECTIONS false`).
        ("55000", Auth),
        // It is dropped.
        ("57P04", Auth),
        // The server ended the session: at an administrator's request, after another backend's crash, or at its limit.
        ("57P01", Reset),
        ("57P02", Reset),
        ("25P03", Reset),
        // A limit of time, another session's lock, a conflict with another transaction, or with recovery on a standby.
        ("57", Busy),
        ("55", Busy),
        ("40", Busy),
        ("25P", Busy),
        // The disk or the memory is full.
        ("53100", MemoryFull),
        ("53200", MemoryFull),
        // The session has reached a limit of the configuration, such as `temp_file_limit`.
        ("53400", Rejected),
        // It lacks descriptors, or another resource of the system.
        ("53", Busy),
        // The system fails to read or write, or a file is missing or in the way: of its data, or a library.
        ("58", Storage),
        // Its tables or its indexes are damaged.
        ("XX001", Storage),
        ("XX002", Storage),
        // An internal error.
        ("XX", Protocol),
        // Parameters and names that the server does not know, or that it does not support.
        ("22", Rejected),
        ("42", Rejected),
        ("0A", Rejected),
        ("25", Rejected),
        ("54", Rejected),
        ("", Rejected),
    ]
};

/// What an error of a run means.
pub(super) fn classify(
    error: &tokio_postgres::Error,
    peer: &str,
    auth_is_alive: bool,
) -> Result<ProbeOutcome, Failure> {
    let Some(server) = error.as_db_error() else {
        if asks_for_another_login(error) {
            let text = format!("{peer} asks for a way to log in that hostprobe lacks: {error}");
            return if auth_is_alive {
                Ok(ProbeOutcome::Ok)
            } else {
                Err(Failure::new(ProbeFailure::Auth, text))
            };
        }
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
    match meaning(server.code(), server.message(), server.routine(), server.file()) {
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

/// `routine` and `file`: where in its source the server has raised the error.
fn meaning(code: &SqlState, message: &str, routine: Option<&str>, file: Option<&str>) -> Meaning {
    Meaning::Failed(if *code == SqlState::CANNOT_CONNECT_NOW {
        return cannot_connect_now(message);
    } else if *code == SqlState::TOO_MANY_CONNECTIONS {
        if limit_of(routine, message) == Some(Limit::Account) {
            ProbeFailure::AccountLimit
        } else {
            ProbeFailure::TooManyConnections
        }
    } else if is_denied_to_server(code, message, file) {
        ProbeFailure::Storage
    } else if code.code().starts_with("08") || routine.is_none() {
        // PostgreSQL names the function that raised an error, and a pooler does not.
        of_pooler(message, code)
    } else {
        of_code(code)
    })
}

/// Whether the system denied a file to the server. The code is that of a right which a role lacks; the source file that
/// raised the error is one that opens files. Those that begin a session refuse roles as well, in words that have no reason
/// of the system after a colon in any language.
fn is_denied_to_server(code: &SqlState, message: &str, raised_in: Option<&str>) -> bool {
    const OPENS_FILES: [&str; 6] = ["fd.c", "md.c", "relmapper.c", "relcache.c", "slru.c", "dfmgr.c"];
    const BEGINS_SESSIONS: [&str; 2] = ["miscinit.c", "postinit.c"];
    let is_raised_in = |files: &[&str]| raised_in.is_some_and(|file| files.contains(&file));
    *code == SqlState::INSUFFICIENT_PRIVILEGE
        && (is_raised_in(&OPENS_FILES) || is_raised_in(&BEGINS_SESSIONS) && message.contains(": "))
}

fn of_code(code: &SqlState) -> ProbeFailure {
    let row = CODES.iter().find(|(begin, _)| code.code().starts_with(begin));
    row.map_or(ProbeFailure::Rejected, |(_, failure)| *failure)
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
    ("shutting down", ProbeFailure::Busy),
];

fn of_pooler(message: &str, code: &SqlState) -> ProbeFailure {
    let by_code = of_code(code);
    if matches!(by_code, ProbeFailure::Auth | ProbeFailure::Reset) {
        return by_code;
    }
    let known = POOLER_WORDS.iter().find(|(words, _)| message.contains(words));
    known.map_or(ProbeFailure::Upstream, |(_, failure)| *failure)
}

/// 57P03: the server starts, recovers, or ends. Only its message distinguishes them, and it follows `lc_messages`. An
/// unknown message counts as a start, which is by far the most frequent.
fn cannot_connect_now(message: &str) -> Meaning {
    if message.contains("shutting down") {
        // It serves its last clients or writes its data, and its exit says what comes next.
        Meaning::Failed(ProbeFailure::Busy)
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

/// Whether the server asked for an authentication that the client library does not have, such as GSSAPI.
fn asks_for_another_login(error: &tokio_postgres::Error) -> bool {
    // This error has no type of its own. Its words are those of the library.
    error.to_string().starts_with("authentication error")
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
        meaning(&SqlState::from_code(code), message, Some("errstart"), None)
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
        assert_eq!(ending, Meaning::Failed(ProbeFailure::Busy));
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
            ("XX001", "invalid page in block 0 of relation base/5/1259", ProbeFailure::Storage),
            ("XX002", "index \"pg_class_oid_index\" contains unexpected zero page", ProbeFailure::Storage),
            // A temporary file that is too long, not a connection too many.
            ("53400", "temporary file size exceeds temp_file_limit", ProbeFailure::Rejected),
            ("53000", "could not open file: Too many open files in system", ProbeFailure::Busy),
            ("53100", "could not extend file: No space left on device", ProbeFailure::MemoryFull),
            ("53200", "out of memory", ProbeFailure::MemoryFull),
            ("58030", "could not read block 0: Input/output error", ProbeFailure::Storage),
            (
                "58P01",
                "could not open file \"base/5/1259\": No such file or directory",
                ProbeFailure::Storage,
            ),
            ("58P01", "could not access file \"auto_explain\": No such file", ProbeFailure::Storage),
            ("58P02", "could not create file \"base/5/1\": File exists", ProbeFailure::Storage),
            ("58000", "could not receive data from the system", ProbeFailure::Storage),
            ("57014", "canceling statement due to statement timeout", ProbeFailure::Busy),
            ("57P04", "database \"x\" was dropped", ProbeFailure::Auth),
            ("40001", "canceling statement due to conflict with recovery", ProbeFailure::Busy),
            ("22023", "invalid value for parameter \"TimeZone\"", ProbeFailure::Rejected),
            ("42704", "unrecognized configuration parameter \"x\"", ProbeFailure::Rejected),
            ("28000", "role \"x\" is not permitted to log in", ProbeFailure::Auth),
            ("0A000", "unsupported frontend protocol", ProbeFailure::Rejected),
            ("P0001", "raised by a login trigger", ProbeFailure::Rejected),
        ] {
            assert_eq!(of(code, message), Meaning::Failed(failure), "{code} {message}");
        }
    }

    #[test]
    fn a_file_that_the_server_may_not_open_is_no_missing_right_of_the_role() {
        const VERSION: &str = "could not open file \"base/5/PG_VERSION\": Permission denied";
        const ORDNER: &str = "konnte nicht auf Verzeichnis »base/5« zugreifen: Keine Berechtigung";
        const OF_ROLE: &str = "permission denied for database \"x\"";
        let denied =
            |code: &str, message, file| is_denied_to_server(&SqlState::from_code(code), message, file);
        assert!(denied("42501", VERSION, Some("relmapper.c")) && denied("42501", VERSION, Some("fd.c")));
        assert!(denied("42501", VERSION, Some("miscinit.c")) && denied("42501", ORDNER, Some("postinit.c")));
        assert!(!denied("42501", OF_ROLE, Some("postinit.c")) && !denied("42501", OF_ROLE, None));
        assert!(!denied("42501", OF_ROLE, Some("aclchk.c")) && !denied("28P01", VERSION, Some("fd.c")));
    }

    #[test]
    fn the_limit_of_an_account_differs_from_that_of_the_server() {
        let full = |routine, message| meaning(&SqlState::TOO_MANY_CONNECTIONS, message, routine, None);
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
            let meaning = meaning(&SqlState::from_code(code), message, None, None);
            assert_eq!(meaning, Meaning::Failed(failure), "{message}");
        }
    }
}
