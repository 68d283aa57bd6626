//! The meaning of a MySQL or MariaDB server's errors.

use std::{io, ops::RangeInclusive};

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
    /// TLS is wanted, and it has none.
    #[error("it offers no TLS")]
    NoTls,
    /// There is no TLS session.
    #[error("{}", .0.text)]
    Tls(Failure),
}

/// What an error of a run means.
pub(super) fn classify(error: Error, peer: &str, auth_is_alive: bool) -> Result<ProbeOutcome, Failure> {
    match error {
        Error::Refused { code, words } => refusal(code, &words, peer, auth_is_alive),
        Error::Io(error) => Err(Failure::io(&error, peer)),
        Error::NoTls => {
            Err(Failure::new(ProbeFailure::Tls, format!("no TLS session with {peer}: it offers none")))
        }
        Error::Tls(failure) => Err(failure),
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

/// What error codes mean, the first row that has the code. A server that answers with an error is alive, so that any
/// other code is one that it refuses the probe with.
const CODES: [(&[RangeInclusive<u16>], ProbeFailure); 7] = {
    use ProbeFailure::{Auth, Busy, MemoryFull, Rejected, Reset, TooManyConnections, Upstream};

    [
        // ER_CON_COUNT_ERROR.
        (&[1040..=1040], TooManyConnections),
        // ER_SERVER_SHUTDOWN: it ends.
        (&[1053..=1053], Reset),
        // Errors of a client library and of ProxySQL: a proxy answers with them if the server behind it fails.
        (&[2000..=2999, 9000..=9099], Upstream),
        // ER_DISK_FULL, ER_ERROR_ON_WRITE, ER_OUTOFMEMORY, ER_OUT_OF_SORTMEMORY, ER_OUT_OF_RESOURCES, ER_RECORD_FILE_FULL,
        // ER_CANT_CREATE_THREAD.
        (&[1021..=1021, 1026..=1026, 1037..=1038, 1041..=1041, 1114..=1114, 1135..=1135], MemoryFull),
        // The server turns us away. ER_DBACCESS_DENIED_ERROR, ER_ACCESS_DENIED_ERROR, ER_BAD_DB_ERROR, ER_HOST_IS_BLOCKED,
        // ER_HOST_NOT_PRIVILEGED, ER_TABLEACCESS_DENIED_ERROR, ER_COLUMNACCESS_DENIED_ERROR, ER_USER_LIMIT_REACHED,
        // ER_SPECIFIC_ACCESS_DENIED_ERROR, ER_NOT_SUPPORTED_AUTH_MODE, ER_SERVER_IS_IN_SECURE_AUTH_MODE,
        // ER_PLUGIN_IS_NOT_LOADED, ER_ACCESS_DENIED_NO_PASSWORD_ERROR, ER_MUST_CHANGE_PASSWORD (also at login),
        // ER_SERVER_OFFLINE_MODE, ER_ACCOUNT_HAS_BEEN_LOCKED (MySQL, MariaDB), ER_SECURE_TRANSPORT_REQUIRED,
        // ER_USER_ACCESS_DENIED_FOR_USER_ACCOUNT_BLOCKED_BY_PASSWORD_LOCK.
        (
            &[
                1044..=1045,
                1049..=1049,
                1129..=1130,
                1142..=1143,
                1226..=1227,
                1251..=1251,
                1275..=1275,
                1524..=1524,
                1698..=1698,
                1820..=1820,
                1862..=1862,
                3032..=3032,
                3118..=3118,
                3159..=3159,
                3955..=3955,
                4151..=4151,
            ],
            Auth,
        ),
        // ER_LOCK_WAIT_TIMEOUT, ER_LOCK_DEADLOCK, ER_QUERY_INTERRUPTED, ER_CONNECTION_KILLED, ER_QUERY_TIMEOUT,
        // ER_SESSION_WAS_KILLED, ER_STATEMENT_TIMEOUT: another session or a limit ended this one.
        (&[1205..=1205, 1213..=1213, 1317..=1317, 1927..=1927, 1969..=1969, 3024..=3024, 3169..=3169], Busy),
        (&[0..=u16::MAX], Rejected),
    ]
};

fn meaning(code: u16, words: &str) -> Meaning {
    // ER_UNKNOWN_COM_ERROR: a Galera node that has not joined its cluster yet answers with this error.
    if code == 1047 && words.contains("WSREP has not yet prepared") {
        return Meaning::Starting;
    }
    Meaning::Failed(if is_limit_of_account(code, words) {
        ProbeFailure::AccountLimit
    } else if code == 1927 && words.contains("backend") {
        // MaxScale: the server behind it has gone.
        ProbeFailure::Upstream
    } else {
        let row = CODES.iter().find(|(codes, _)| codes.iter().any(|codes| codes.contains(&code)));
        row.map_or(ProbeFailure::Rejected, |(_, failure)| *failure)
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
            (1047, "Unknown command", ProbeFailure::Rejected),
            (1037, "Out of memory", ProbeFailure::MemoryFull),
            (1021, "Disk full (/tmp); waiting for someone to free some space", ProbeFailure::MemoryFull),
            (1135, "Can't create a new thread (errno 11)", ProbeFailure::MemoryFull),
            (3159, "Connections using insecure transport are prohibited", ProbeFailure::Auth),
            (1524, "Plugin 'ed25519' is not loaded", ProbeFailure::Auth),
            (1227, "Access denied; you need (at least one of) the PROCESS privilege(s)", ProbeFailure::Auth),
            (1043, "Bad handshake", ProbeFailure::Rejected),
            (1105, "vttablet: rpc error: code = Unavailable", ProbeFailure::Rejected),
            (9006, "ProxySQL Error: connection is locked to hostgroup 1", ProbeFailure::Upstream),
            (1927, "Lost connection to backend server: network error", ProbeFailure::Upstream),
            (1927, "Connection was killed", ProbeFailure::Busy),
            (1317, "Query execution was interrupted", ProbeFailure::Busy),
            (65_535, "a code that is yet to come", ProbeFailure::Rejected),
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
