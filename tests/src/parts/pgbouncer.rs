//! PgBouncer: a pooler before a PostgreSQL server.

use std::fs;

use super::{PostgresFolder, require};

const PROGRAM: &str = "/usr/sbin/pgbouncer";

/// The command that pools the connections to the server at `server`, with one connection a pool; None where it is not
/// installed. `more` are further settings.
///
/// # Panics
/// If its configuration cannot be written.
pub fn pgbouncer(folder: &PostgresFolder, port: u16, server: u16, more: &str) -> Option<Vec<String>> {
    if !require("pgbouncer", PROGRAM) {
        return None;
    }
    let users = folder.write("users.txt", "\"postgres\" \"\"\n\"app\" \"\"\n");
    let config = format!(
        "[databases]\npostgres = host=127.0.0.1 port={server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
         listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\ndefault_pool_size = 1\n{more}\n",
        users.display()
    );
    let config = folder.write("pgbouncer.ini", &config);
    assert!(fs::metadata(&config).is_ok());
    let mut command = PostgresFolder::as_server_user();
    command.extend([PROGRAM.to_owned(), config.display().to_string()]);
    Some(command)
}
