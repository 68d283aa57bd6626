//! The meaning of a MySQL or MariaDB server's errors.

use std::io;

use crate::{
    fact::{ProbeFailure, ProbeOutcome},
    probe::failure::Failure,
};

/// Why an exchange with a server failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The server answered with an error.
    #[error("error {code}: {words}")]
    Refused { code: u16, words: String },
    /// It asks for a way to log in that the probe does not have.
    #[error("it asks for the authentication plugin {0}")]
    UnknownPlugin(String),
    #[error("it sent {0}")]
    Malformed(&'static str),
}

/// What an error of a run means.
pub(super) fn classify(error: &Error, peer: &str, auth_is_alive: bool) -> Result<ProbeOutcome, Failure> {
    match error {
        Error::Refused { code, words } => refusal(*code, words, peer, auth_is_alive),
        Error::Io(error) => Err(Failure::io(error, peer)),
        Error::UnknownPlugin(_) if auth_is_alive => Ok(ProbeOutcome::Ok),
        Error::UnknownPlugin(name) => {
            let text = format!("{peer} asks for the authentication plugin {name}, which hostprobe lacks");
            Err(Failure::new(ProbeFailure::Auth, text))
        }
        Error::Malformed(_) => {
            let text = format!("{peer} does not answer as a MySQL server does: {error}");
            Err(Failure::new(ProbeFailure::Protocol, text))
        }
    }
}

/// What it means that the server answers with this error.
fn refusal(code: u16, words: &str, peer: &str, auth_is_alive: bool) -> Result<ProbeOutcome, Failure> {
    match meaning(code, words) {
        Meaning::Starting => Ok(ProbeOutcome::Starting(words.to_owned())),
        Meaning::Failed(ProbeFailure::Auth) if auth_is_alive => Ok(ProbeOutcome::Ok),
        Meaning::Failed(kind) => {
            Err(Failure::new(kind, format!("{peer} refuses us with error {code}: {words}")))
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    Starting,
    Failed(ProbeFailure),
}

fn meaning(code: u16, words: &str) -> Meaning {
    Meaning::Failed(match code {
        // ER_CON_COUNT_ERROR.
        1040 => ProbeFailure::TooManyConnections,
        _ if is_limit_of_account(code, words) => ProbeFailure::AccountLimit,
        // Errors of a client library and of ProxySQL: a proxy answers with them if the server behind it fails.
        2000..=2999 | 9001 => ProbeFailure::Upstream,
        // ER_UNKNOWN_COM_ERROR: a Galera node that has not joined its cluster yet answers with this error.
        1047 if words.contains("WSREP has not yet prepared") => return Meaning::Starting,
        // ER_SERVER_SHUTDOWN, ER_QUERY_INTERRUPTED, ER_CONNECTION_KILLED, ER_SESSION_WAS_KILLED.
        1053 | 1317 | 1927 | 3169 => ProbeFailure::Reset,
        // The server is up and turns us away. ER_DBACCESS_DENIED_ERROR, ER_ACCESS_DENIED_ERROR,
        // ER_BAD_DB_ERROR, ER_HOST_IS_BLOCKED, ER_HOST_NOT_PRIVILEGED, ER_NOT_SUPPORTED_AUTH_MODE,
        // ER_ACCESS_DENIED_NO_PASSWORD_ERROR, ER_MUST_CHANGE_PASSWORD (also at login), ER_ACCOUNT_HAS_BEEN_LOCKED
        // (MySQL, MariaDB).
        1044 | 1045 | 1049 | 1129 | 1130 | 1226 | 1251 | 1698 | 1820 | 1862 | 3118 | 4151 => {
            ProbeFailure::Auth
        }
        // ER_SERVER_OFFLINE_MODE: the server accepts administrators only.
        3032 => ProbeFailure::Auth,
        _ => ProbeFailure::Protocol,
    })
}

/// `ER_TOO_MANY_USER_CONNECTIONS`, and `ER_USER_LIMIT_REACHED`, which may be about queries as well.
fn is_limit_of_account(code: u16, words: &str) -> bool {
    code == 1203 || code == 1226 && words.contains("connections")
}

/// Whether a login failed at the limit of its account.
pub(super) fn is_limit(error: &Error) -> bool {
    matches!(error, Error::Refused { code, words } if is_limit_of_account(*code, words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_show_which_side_is_at_fault() {
        for (code, words, failure) in [
            (1040, "Too many connections", ProbeFailure::TooManyConnections),
            (1203, "User web already has more than 'max_user_connections'", ProbeFailure::AccountLimit),
            (1226, "User 'web' has exceeded the 'max_user_connections' resource", ProbeFailure::AccountLimit),
            (
                2003,
                "Can't connect to remote MySQL server for client connected to '0.0.0.0:6446'",
                ProbeFailure::Upstream,
            ),
            (
                9001,
                "Max connect timeout reached while reaching hostgroup 0 after 10000ms",
                ProbeFailure::Upstream,
            ),
            (1226, "User 'web' has exceeded the 'max_questions' resource", ProbeFailure::Auth),
            (1045, "Access denied for user 'probe'@'localhost'", ProbeFailure::Auth),
            (1129, "Host '10.0.0.1' is blocked because of many connection errors", ProbeFailure::Auth),
            (1053, "Server shutdown in progress", ProbeFailure::Reset),
            (1047, "Unknown command", ProbeFailure::Protocol),
            (1037, "Out of memory", ProbeFailure::Protocol),
        ] {
            assert_eq!(meaning(code, words), Meaning::Failed(failure), "{code} {words}");
        }
        let joining = "WSREP has not yet prepared node for application use";
        assert_eq!(meaning(1047, joining), Meaning::Starting);
    }

    #[test]
    fn refused_credentials_count_as_up_if_the_probe_allows_it() {
        let denied = |alive| refusal(1045, "Access denied", "db:3306", alive);
        assert_eq!(denied(true).unwrap(), ProbeOutcome::Ok);
        assert_eq!(denied(false).unwrap_err().text, "db:3306 refuses us with error 1045: Access denied");
    }
}
