//! Programs that pass TCP connections on to a server of this host.

use std::{
    fs, io,
    net::{TcpListener, TcpStream},
    path::Path,
    thread,
    time::Duration,
};

use super::{Certificate, require};

/// The module of Debian's nginx that forwards connections.
const NGINX_STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// The command of an nginx, with a worker, that passes connections to `port` on to `server`. None where it is not
/// installed.
///
/// # Panics
/// If its configuration cannot be written.
pub fn nginx_stream(folder: &Path, port: u16, server: u16) -> Option<Vec<String>> {
    const PROGRAM: &str = "/usr/sbin/nginx";
    if !require("nginx-light", PROGRAM) || !require("libnginx-mod-stream", NGINX_STREAM) {
        return None;
    }
    let base = folder.join(format!("stream-{port}")).display().to_string();
    let config = format!(
        "load_module {NGINX_STREAM};\ndaemon off;\nworker_processes 1;\nuser root;\npid {base}.pid;\n\
         error_log {base}.error;\nevents {{ worker_connections 64; }}\n\
         stream {{ server {{ listen 127.0.0.1:{port}; proxy_connect_timeout 1s; proxy_pass 127.0.0.1:{server}; }} }}\n"
    );
    fs::write(format!("{base}.conf"), config).expect("the configuration is written");
    Some([PROGRAM, "-e", &format!("{base}.error"), "-c", &format!("{base}.conf")].map(str::to_owned).to_vec())
}

/// The command of a stunnel that ends TLS on `port` with this certificate, and passes on to `server`. None where it is
/// not installed.
///
/// # Panics
/// If its configuration cannot be written.
pub fn stunnel(folder: &Path, certificate: &Certificate, port: u16, server: u16) -> Option<Vec<String>> {
    const PROGRAM: &str = "/usr/bin/stunnel4";
    if !require("stunnel4", PROGRAM) {
        return None;
    }
    let config = format!(
        "foreground = yes\npid =\n[forward]\naccept = 127.0.0.1:{port}\nconnect = 127.0.0.1:{server}\n\
         cert = {}\nkey = {}\n",
        certificate.pem.display(),
        certificate.key.display()
    );
    let path = folder.join(format!("stunnel-{port}.conf"));
    fs::write(&path, config).expect("the configuration is written");
    Some([PROGRAM, &path.display().to_string()].map(str::to_owned).to_vec())
}

/// The command of a socat that starts a child for each connection to `port`, which passes it on to `server`. None where
/// it is not installed.
pub fn socat(port: u16, server: u16) -> Option<Vec<String>> {
    const PROGRAM: &str = "/usr/bin/socat";
    if !require("socat", PROGRAM) {
        return None;
    }
    let (listen, connect) =
        (format!("TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork"), format!("TCP:127.0.0.1:{server}"));
    Some([PROGRAM, &listen, &connect].map(str::to_owned).to_vec())
}

/// Passes connections on to a port of loopback, each after a delay. Returns the port that it listens on, until the process
/// ends.
///
/// # Panics
/// If no port is free.
pub fn delayed(server: u16, delay: Duration) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
    let port = listener.local_addr().expect("a listener has an address").port();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                thread::sleep(delay);
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { return };
                let (Ok(to_client), Ok(to_server)) = (client.try_clone(), server.try_clone()) else { return };
                thread::spawn(move || pass(&server, &to_client));
                pass(&client, &to_server);
            });
        }
    });
    port
}

/// Passes on what comes from one side, and its end.
fn pass(mut from: &TcpStream, mut to: &TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(std::net::Shutdown::Write);
}
