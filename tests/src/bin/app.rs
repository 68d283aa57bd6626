//! A small web application that needs Redis: `app --port N --redis N [--at ADDRESS] [--once]`.
//!
//! `/health` asks Redis for a `PING` over one connection that is kept, and answers 503 while Redis does not answer.
//! Redis is on this host, or at an address.
//! With `--once` a connection that was lost is never made again, as in an application that does not heal. `/count`
//! says how often `/health` was answered, `/healthy` how often with 200.

#[path = "victim/store.rs"]
mod store;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    process::ExitCode,
};

use hostprobe_tests::http::{request_target, respond};
use store::Store;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)?.parse::<u16>().ok()
    };
    let (Some(port), Some(redis)) = (value("--port"), value("--redis")) else {
        eprintln!("usage: app --port N --redis N [--at ADDRESS] [--once]");
        return ExitCode::from(2);
    };
    let again = !arguments.iter().any(|argument| argument == "--once");
    let at = arguments.iter().position(|argument| argument == "--at");
    let host: Option<IpAddr> = at.and_then(|at| arguments.get(at + 1)?.parse().ok());
    let host = host.unwrap_or(Ipv4Addr::LOCALHOST.into());
    let mut store = Store::new(SocketAddr::new(host, redis), again);
    let listener = match TcpListener::bind(("127.0.0.1", port)) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("app: cannot listen on port {port}: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("listening on {port}");
    let (mut answered, mut well) = (0_u64, 0_u64);
    for stream in listener.incoming().map_while(Result::ok) {
        let Some(path) = request_target(&stream) else { continue };
        let (status, body) = match path.as_str() {
            "/health" => {
                let answers = store.answers();
                answered += 1;
                well += u64::from(answers);
                if answers {
                    ("200 OK", "ok".to_owned())
                } else {
                    ("503 Service Unavailable", "redis does not answer".to_owned())
                }
            }
            "/count" => ("200 OK", answered.to_string()),
            "/healthy" => ("200 OK", well.to_string()),
            _ => ("404 Not Found", String::new()),
        };
        respond(stream, status, &body);
    }
    ExitCode::FAILURE
}
