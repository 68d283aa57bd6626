//! Web servers, proxies, and what they need.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

/// The program of nginx.
pub const NGINX: &str = "/usr/sbin/nginx";

/// The program of HAProxy.
pub const HAPROXY: &str = "/usr/sbin/haproxy";

/// The program that makes certificates.
pub const OPENSSL: &str = "/usr/bin/openssl";

/// The command of an nginx that serves this part of a `server` block.
///
/// # Panics
/// If its configuration cannot be written.
pub fn nginx(folder: &Path, name: &str, server: &str) -> Vec<String> {
    let config = format!(
        "daemon off; master_process off; user root; pid {folder}/{name}.pid; error_log stderr;\n\
         events {{}}\n\
         http {{ access_log off; client_body_temp_path {folder}/{name}.b; proxy_temp_path {folder}/{name}.p;\n\
         fastcgi_temp_path {folder}/{name}.f; uwsgi_temp_path {folder}/{name}.u; scgi_temp_path {folder}/{name}.s;\n\
         server {{ {server} }} }}\n",
        folder = folder.display()
    );
    let path = folder.join(format!("{name}.conf"));
    fs::write(&path, config).expect("a file is written");
    [NGINX, "-c", &path.display().to_string()].map(str::to_owned).to_vec()
}

/// The command of an HAProxy that passes connections to `port` on to a server of this host, which it checks every half
/// second.
///
/// # Panics
/// If its configuration cannot be written.
pub fn haproxy(folder: &Path, port: u16, server: u16) -> Vec<String> {
    let config = format!(
        "defaults\n mode tcp\n timeout connect 1s\n timeout client 10s\n timeout server 10s\n\
         listen pool\n bind 127.0.0.1:{port}\n server one 127.0.0.1:{server} check inter 500ms\n"
    );
    let path = folder.join(format!("haproxy-{port}.cfg"));
    fs::write(&path, config).expect("a file is written");
    [HAPROXY, "-db", "-f", &path.display().to_string()].map(str::to_owned).to_vec()
}

/// Makes a certificate for the loopback that signs itself: the paths of its key and of itself.
///
/// # Panics
/// If openssl fails.
pub fn certificate(folder: &Path, name: &str) -> (String, String) {
    let [key, pem] = ["key", "pem"].map(|end| folder.join(format!("{name}.{end}")));
    let made = Command::new(OPENSSL)
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:TRUE"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&pem)
        .stderr(Stdio::null())
        .status();
    assert!(made.expect("openssl runs").success());
    (key.display().to_string(), pem.display().to_string())
}
