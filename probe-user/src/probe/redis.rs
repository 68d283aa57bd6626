//! Redis and Valkey: `PING`, and the memory and replication of `INFO`.
//!
//! `INFO` is asked for as a whole, since servers before version 7 take at most one section at a time.
//!
//! The few replies are read here and not by the client library: it drops a reply that comes before a request,
//! and that is how a Redis server says that it has too many clients. Nothing is sent that old servers, or ones
//! that still load, would refuse (`HELLO`, `CLIENT SETNAME`, `CLIENT SETINFO`).

mod failure;
mod info;
mod members;
mod report;

use std::io;

use redis::{ConnectionInfo, cmd};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

pub(super) use self::info::Counted;
use self::{
    failure::{Meaning, meaning},
    info::Info,
};
use super::{
    bounded::{BUDGET, Bounded},
    failure::Failure,
    progress::Waiting,
    tcp,
    tls::{Check, Tls, Wanted},
    unix,
};
use crate::{
    config::{Probe, RedisAddress},
    fact::{ProbeFailure, ProbeOutcome, ServerReport, ServerUsage},
};

/// `INFO` is some kilobytes long; whatever claims to be much longer is not Redis.
const REPLY_MAX: u64 = BUDGET as u64 / 2;

/// Logs in if the URL has a password, sends `PING`, and reads `INFO`.
pub(super) async fn run(
    probe: &Probe,
    tls: &Tls,
    counted: &mut Counted,
    usage: &mut Option<ServerUsage>,
    waiting: &Waiting,
) -> Result<ProbeOutcome, Failure> {
    let address = RedisAddress::parse(probe.target.expose()).map_err(|error| {
        Failure::new(ProbeFailure::CannotAsk, format!("{} is not a Redis URL: {error}", probe.target))
    })?;
    let peer = address.peer();
    let mut stream = match &address.socket {
        Some(name) => Bounded::new(unix::connect(name, waiting).await?),
        None => Bounded::new(tcp::connect(&peer, waiting).await?),
    };
    if address.is_tls {
        let options = probe.tls.clone().unwrap_or_default();
        let check = Check::of(&options);
        let wanted = Wanted { options: &options, check, alpn: &[], host: &address.host, peer: &peer };
        stream = Bounded::new(tls.connect(stream, wanted, waiting).await?);
    }
    let server = Server { stream: BufReader::new(stream), peer: &peer, probe, waiting };
    ask(server, &address.info, counted, usage).await
}

async fn ask(
    mut server: Server<'_>,
    connection: &ConnectionInfo,
    counted: &mut Counted,
    usage: &mut Option<ServerUsage>,
) -> Result<ProbeOutcome, Failure> {
    let settings = connection.redis_settings();
    if let Some(password) = settings.password() {
        server.waiting.set("the reply to AUTH");
        let mut auth = cmd("AUTH");
        if let Some(user) = settings.username() {
            auth.arg(user);
        }
        match server.request(auth.arg(password)).await? {
            // A server without a password complains of being given one; it works all the same.
            Reply::Error(words) if words.contains("without any password") => {}
            Reply::Error(words) => return server.refused(&words).await,
            Reply::Text(_) => {}
        }
    }
    server.waiting.set("the reply to PING");
    let unwritable = match server.request(&cmd("PING")).await? {
        Reply::Text(_) => None,
        // It answers everything else. `INFO` says why it takes no writes.
        Reply::Error(words) if words.starts_with("MISCONF ") => Some(words),
        Reply::Error(words) => return server.refused(&words).await,
    };
    server.waiting.set("the reply to INFO");
    match server.request(&cmd("INFO")).await? {
        Reply::Text(text) => {
            let info = Info(&text);
            let report = &mut usage.insert(info.usage()).report;
            let complaint = info.complaint(server.probe.memory_percent, counted);
            match (complaint, unwritable) {
                (Some((ProbeFailure::Replication, words)), _) if info.waits_for_first_sync() => {
                    Ok(ProbeOutcome::Starting(words))
                }
                (Some((kind, words)), _) => Err(Failure::new(kind, format!("{} {words}", server.peer))),
                (None, Some(words)) => server.refused(&words).await,
                (None, None) => server.ask_of_members(&info, report).await,
            }
        }
        // A server may keep it from us. It works all the same, unless its memory was to be watched.
        Reply::Error(words) if server.probe.memory_percent.is_some() => server.refused(&words).await,
        Reply::Error(_) => {
            let report = ServerReport { withheld: true, ..ServerReport::default() };
            *usage = Some(ServerUsage { report, ..ServerUsage::default() });
            match unwritable {
                Some(words) => server.refused(&words).await,
                None => Ok(ProbeOutcome::Ok),
            }
        }
    }
}

enum Reply {
    Text(String),
    Error(String),
}

struct Server<'a> {
    stream: BufReader<Bounded>,
    peer: &'a str,
    probe: &'a Probe,
    waiting: &'a Waiting,
}

impl Server<'_> {
    async fn request(&mut self, command: &redis::Cmd) -> Result<Reply, Failure> {
        let sent = self.stream.write_all(&command.get_packed_command()).await;
        self.reply_to(sent).await
    }

    /// The replies to several commands that are sent at once.
    async fn request_all(&mut self, commands: &[u8], number: usize) -> Result<Vec<Reply>, Failure> {
        let mut sent = self.stream.write_all(commands).await;
        let mut replies = Vec::new();
        for _ in 0..number {
            replies.push(self.reply_to(std::mem::replace(&mut sent, Ok(()))).await?);
        }
        Ok(replies)
    }

    async fn reply_to(&mut self, sent: io::Result<()>) -> Result<Reply, Failure> {
        // A server that has too many clients says so and closes at once: what it said may still be read when
        // writing fails.
        match (self.reply().await, sent) {
            (Ok(reply), _) => Ok(reply),
            (Err(_), Err(error)) | (Err(error), Ok(()))
                if error.kind() == io::ErrorKind::InvalidData && error.get_ref().is_none() =>
            {
                let text = format!("{} does not answer as Redis does", self.peer);
                Err(Failure::new(ProbeFailure::Protocol, text))
            }
            (Err(_), Err(error)) | (Err(error), Ok(())) => Err(Failure::io(&error, self.peer)),
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
    async fn refused(&mut self, words: &str) -> Result<ProbeOutcome, Failure> {
        let kind = match meaning(words) {
            Meaning::Loading => {
                // The progress is an extra: without it the server is starting just the same.
                let progress = self.info("persistence").await.and_then(|text| Info(&text).progress());
                let words = words.trim_start_matches("LOADING ");
                return Ok(ProbeOutcome::Starting(match progress {
                    Some(progress) => format!("{words} ({progress})"),
                    None => words.to_owned(),
                }));
            }
            Meaning::PrimaryDown => {
                let info = self.info("replication").await;
                let starting = info.as_deref().map(Info).and_then(|info| {
                    let first = info.link_down().filter(|_| info.waits_for_first_sync());
                    info.syncing().or(first)
                });
                if let Some(syncing) = starting {
                    return Ok(ProbeOutcome::Starting(syncing));
                }
                let link = info.as_deref().and_then(|text| Info(text).link_down());
                let link = link.map_or_else(String::new, |link| format!("{link}; "));
                let text = format!("{} {link}answered: {words}", self.peer);
                return Err(Failure::new(ProbeFailure::Replication, text));
            }
            Meaning::Failed(kind) => kind,
        };
        if kind == ProbeFailure::Auth && self.probe.auth_is_alive {
            return Ok(ProbeOutcome::Ok);
        }
        Err(Failure::new(kind, format!("{} answered: {words}", self.peer)))
    }

    /// A section of `INFO`, if it can be had.
    async fn info(&mut self, section: &str) -> Option<String> {
        self.waiting.set("the reply to INFO");
        match self.request(cmd("INFO").arg(section)).await {
            Ok(Reply::Text(text)) => Some(text),
            Ok(Reply::Error(_)) | Err(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
