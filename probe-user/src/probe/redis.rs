//! Redis and Valkey: `PING`, and `INFO` where there is more to ask.
//!
//! The few replies are read here and not by the client library: it drops a reply that comes before a request,
//! and that is how a Redis server says that it has too many clients. Nothing is sent that old servers, or ones
//! that still load, would refuse (`HELLO`, `CLIENT SETNAME`, `CLIENT SETINFO`).

use std::io;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, cmd};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::UnixStream,
};

use super::{Waiting, failure::Failure, tcp};
use crate::{
    config::Probe,
    fact::{ProbeFailure, ProbeOutcome},
};

/// `INFO` is some kilobytes long; whatever claims to be much longer is not Redis.
const REPLY_MAX: u64 = 1 << 20;

/// Logs in where the URL says so, sends `PING`, and `INFO` where the probe watches memory or the server loads.
pub(super) async fn run(probe: &Probe, waiting: &Waiting) -> Result<ProbeOutcome, Failure> {
    let target = probe.target.to_string();
    let info = probe.target.expose().into_connection_info().map_err(|error| {
        Failure::new(ProbeFailure::Local, format!("{target} is not a Redis URL: {}", error.category()))
    })?;
    match info.addr() {
        ConnectionAddr::Tcp(host, port) => {
            // An IPv6 address has colons of its own.
            let peer = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
            let stream = tcp::connect(&peer, waiting).await?;
            ask(stream, &info, &peer, probe, waiting).await
        }
        ConnectionAddr::Unix(path) => {
            let peer = path.display().to_string();
            let stream = UnixStream::connect(path).await.map_err(|error| Failure::io(&error, &peer))?;
            ask(stream, &info, &peer, probe, waiting).await
        }
        // Any other way to a server is one this probe cannot go.
        _ => Err(Failure::new(ProbeFailure::Local, format!("{target}: the redis probe cannot do TLS"))),
    }
}

async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    info: &ConnectionInfo,
    peer: &str,
    probe: &Probe,
    waiting: &Waiting,
) -> Result<ProbeOutcome, Failure> {
    let mut server = Server { stream: BufReader::new(stream), peer };
    let settings = info.redis_settings();
    if let Some(password) = settings.password() {
        waiting.set("the reply to AUTH");
        let mut auth = cmd("AUTH");
        if let Some(user) = settings.username() {
            auth.arg(user);
        }
        match server.request(auth.arg(password)).await? {
            // A server without a password complains of being given one; it works all the same.
            Reply::Error(words) if words.contains("without any password") => {}
            Reply::Error(words) => return server.refused(&words, probe, waiting).await,
            Reply::Text(_) => {}
        }
    }
    waiting.set("the reply to PING");
    if let Reply::Error(words) = server.request(&cmd("PING")).await? {
        return server.refused(&words, probe, waiting).await;
    }
    if let Some(limit) = probe.memory_percent {
        waiting.set("the reply to INFO");
        match server.request(cmd("INFO").arg("memory")).await? {
            Reply::Text(info) => memory_below(&info, limit, peer)?,
            Reply::Error(words) => return server.refused(&words, probe, waiting).await,
        }
    }
    Ok(ProbeOutcome::Ok)
}

enum Reply {
    Text(String),
    Error(String),
}

struct Server<'a, S> {
    stream: BufReader<S>,
    peer: &'a str,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Server<'_, S> {
    async fn request(&mut self, command: &redis::Cmd) -> Result<Reply, Failure> {
        let sent = self.stream.write_all(&command.get_packed_command()).await;
        // A server that has too many clients says so and closes at once: what it said may still be read when
        // writing fails.
        match (self.reply().await, sent) {
            (Ok(reply), _) => Ok(reply),
            (Err(_), Err(error)) | (Err(error), Ok(())) => Err(match error.kind() {
                io::ErrorKind::InvalidData => Failure::new(
                    ProbeFailure::Protocol,
                    format!("{} does not answer as Redis does", self.peer),
                ),
                _ => Failure::io(&error, self.peer),
            }),
        }
    }

    async fn reply(&mut self) -> io::Result<Reply> {
        let mut line = Vec::new();
        (&mut self.stream).take(REPLY_MAX).read_until(b'\n', &mut line).await?;
        let Some(line) = line.strip_suffix(b"\r\n") else {
            let whole = line.last() == Some(&b'\n') || line.len() as u64 == REPLY_MAX;
            return Err(if whole { io::ErrorKind::InvalidData } else { io::ErrorKind::UnexpectedEof }.into());
        };
        let text = String::from_utf8_lossy(line.get(1..).unwrap_or_default()).into_owned();
        match line.first() {
            Some(b'+') => Ok(Reply::Text(text)),
            Some(b'-') => Ok(Reply::Error(text)),
            Some(b'$') => {
                let length = text.parse().ok().filter(|length| *length <= REPLY_MAX);
                let length: u64 = length.ok_or(io::ErrorKind::InvalidData)?;
                let mut bulk = vec![0; length as usize + 2];
                self.stream.read_exact(&mut bulk).await?;
                bulk.truncate(length as usize);
                Ok(Reply::Text(String::from_utf8_lossy(&bulk).into_owned()))
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// What an error reply means.
    async fn refused(
        &mut self,
        words: &str,
        probe: &Probe,
        waiting: &Waiting,
    ) -> Result<ProbeOutcome, Failure> {
        let kind = match words.split(' ').next().unwrap_or_default() {
            "LOADING" => {
                waiting.set("the reply to INFO");
                // The progress is an extra: without it the server is starting just the same.
                let info = self.request(cmd("INFO").arg("persistence")).await;
                let progress = if let Ok(Reply::Text(info)) = info { progress(&info) } else { None };
                let words = words.trim_start_matches("LOADING ");
                return Ok(ProbeOutcome::Starting(match progress {
                    Some(progress) => format!("{words} ({progress})"),
                    None => words.to_owned(),
                }));
            }
            "NOAUTH" | "WRONGPASS" | "NOPERM" => ProbeFailure::Auth,
            _ if words.contains("max number of clients") => ProbeFailure::TooManyConnections,
            // What servers before version 6 say to a wrong password and to a missing one.
            _ if words.contains("invalid password") || words.contains("operation not permitted") => {
                ProbeFailure::Auth
            }
            _ => ProbeFailure::Protocol,
        };
        if kind == ProbeFailure::Auth && probe.auth_is_alive {
            return Ok(ProbeOutcome::Ok);
        }
        Err(Failure::new(kind, format!("{} answered: {words}", self.peer)))
    }
}

/// A field of `INFO`.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'))
}

/// How far a server that loads has come.
fn progress(info: &str) -> Option<String> {
    let percent = field(info, "loading_loaded_perc")?;
    let eta = field(info, "loading_eta_seconds").filter(|eta| *eta != "0");
    Some(match eta {
        Some(eta) => format!("{percent} % loaded, about {eta} s to go"),
        None => format!("{percent} % loaded"),
    })
}

fn memory_below(info: &str, limit: u8, peer: &str) -> Result<(), Failure> {
    let bytes = |name| field(info, name).and_then(|value| value.parse::<u64>().ok());
    let (Some(used), Some(max @ 1..)) = (bytes("used_memory"), bytes("maxmemory")) else {
        // No maxmemory: nothing that could fill up.
        return Ok(());
    };
    let percent = (u128::from(used) * 100 / u128::from(max)) as u64;
    if percent <= u64::from(limit) {
        return Ok(());
    }
    let text =
        format!("{peer} uses {percent} % of its maxmemory ({used} of {max} bytes), more than {limit} %");
    Err(Failure::new(ProbeFailure::Memory, text))
}
