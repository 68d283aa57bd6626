//! HAProxy: a configuration of a test's own, and the command that serves it.

use std::{fs, path::Path};

use super::require;

/// Debian's program.
const PROGRAM: &str = "/usr/sbin/haproxy";

/// The command of an HAProxy that passes connections to `port` on to a server of this host, which it checks every half
/// second. None where it is not installed.
///
/// # Panics
/// If its configuration cannot be written.
pub fn haproxy(folder: &Path, port: u16, server: u16) -> Option<Vec<String>> {
    command(folder, "tcp", port, server)
}

/// The same, which understands HTTP and answers by itself where there is no server.
///
/// # Panics
/// If its configuration cannot be written.
pub fn haproxy_http(folder: &Path, port: u16, server: u16) -> Option<Vec<String>> {
    command(folder, "http", port, server)
}

fn command(folder: &Path, mode: &str, port: u16, server: u16) -> Option<Vec<String>> {
    if !require("haproxy", PROGRAM) {
        return None;
    }
    let config = format!(
        "defaults\n mode {mode}\n timeout connect 1s\n timeout client 10s\n timeout server 10s\n\
         listen pool\n bind 127.0.0.1:{port}\n server one 127.0.0.1:{server} check inter 500ms\n"
    );
    let path = folder.join(format!("haproxy-{port}.cfg"));
    fs::write(&path, config).expect("a file is written");
    Some([PROGRAM, "-db", "-f", &path.display().to_string()].map(str::to_owned).to_vec())
}
