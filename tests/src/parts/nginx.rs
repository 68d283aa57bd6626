//! nginx: a configuration of a test's own, and the command that serves it.

use std::{fs, path::Path};

use super::require;

/// Debian's program.
const PROGRAM: &str = "/usr/sbin/nginx";

/// The command of an nginx that writes only below a folder: its pid to `NAME.pid`, its errors to `NAME.error`. `main` is
/// the start of its configuration, such as `daemon off;`, and `server` its `server` block. None where it is not
/// installed.
///
/// # Panics
/// If its configuration cannot be written.
pub fn nginx(folder: &Path, name: &str, main: &str, server: &str) -> Option<Vec<String>> {
    if !require("nginx-light", PROGRAM) {
        return None;
    }
    let base = folder.join(name).display().to_string();
    let config = format!(
        "{main}\nuser root;\npid {base}.pid;\nerror_log {base}.error;\nevents {{ worker_connections 64; }}\n\
         http {{ access_log off; client_body_temp_path {base}.b; proxy_temp_path {base}.p; \
         fastcgi_temp_path {base}.f; uwsgi_temp_path {base}.u; scgi_temp_path {base}.s;\n\
         server {{ {server} }} }}\n"
    );
    let file = format!("{base}.conf");
    fs::write(&file, config).expect("the configuration is written");
    Some([PROGRAM, "-e", &format!("{base}.error"), "-c", &file].map(str::to_owned).to_vec())
}

/// A `server` block that answers `ok`.
pub fn ok(port: u16) -> String {
    format!("listen 127.0.0.1:{port}; location / {{ return 200 ok; }}")
}
