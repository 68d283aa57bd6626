//! DNS: a question to one server, and whether its answer is the expected one.
//!
//! The question goes over UDP, and over TCP if the answer does not fit into a datagram.

use std::{
    fmt::Write as _,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::Record,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UdpSocket,
};

use super::{
    bounded::Bounded,
    failure::Failure,
    progress::{Connection, Waiting},
    tcp,
};
use crate::{
    config::{DnsAddress, Probe},
    fact::{ProbeFailure, ProbeOutcome},
};

/// The longest answer over UDP without EDNS (RFC 1035, 4.2.1), and what a server may send all the same.
const DATAGRAM_MAX: usize = 4096;

/// Datagrams that answer another question. A caller that forges them holds up a run no longer than its timeout.
const FOREIGN_MAX: usize = 16;

/// The answers that a failure shows.
const SHOWN_MAX: usize = 8;

pub(super) async fn run(probe: &Probe, waiting: &Waiting) -> Result<ProbeOutcome, Failure> {
    let Some(address) = DnsAddress::parse(probe.target.expose()) else {
        return Err(Failure::new(ProbeFailure::CannotAsk, "the address is none of DNS"));
    };
    let servers = tcp::resolve(&address.server, waiting).await?;
    waiting.set("the answer");
    // A datagram has no connection that could be missing.
    waiting.connection(Connection::Made);
    let asked = address.clone();
    let (server, mut answer) = tcp::any_of(servers, &address.server, waiting.stagger(), move |server| {
        over_udp(asked.clone(), server)
    })
    .await?;
    if answer.metadata.truncation {
        let needs_tcp = |and: &str| {
            let (name, record) = (address.name.to_ascii(), address.record);
            let about = format!("{} about {name} {record}", address.server);
            format!("{about}: it answers over UDP that its answer needs TCP, {and}")
        };
        waiting.unexpected(ProbeFailure::Answer, needs_tcp(SILENT_OVER_TCP));
        answer = over_tcp(&address, server, waiting).await.map_err(|failure| match of_tcp(failure.kind) {
            Some(and) => Failure::new(ProbeFailure::Answer, needs_tcp(and)),
            None => failure,
        })?;
    }
    judge(&answer, &address, &probe.expect_answers)
}

const SILENT_OVER_TCP: &str = "over which it does not answer";

/// What a failure over TCP says of a server that answers over UDP; None if that does not contradict it.
const fn of_tcp(failure: ProbeFailure) -> Option<&'static str> {
    if matches!(failure, ProbeFailure::Refused) {
        Some("which it refuses")
    } else if matches!(failure, ProbeFailure::Reset) {
        Some("over which it breaks off the connection")
    } else if failure.is_timeout() || matches!(failure, ProbeFailure::Unreachable) {
        Some(SILENT_OVER_TCP)
    } else {
        None
    }
}

/// A question of its own number.
fn question(address: &DnsAddress) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(address.name.clone(), address.record));
    message
}

fn encoded(message: &Message) -> Result<Vec<u8>, Failure> {
    message.to_vec().map_err(|error| Failure::new(ProbeFailure::CannotAsk, format!("no question: {error}")))
}

async fn over_udp(address: DnsAddress, server: SocketAddr) -> Result<(SocketAddr, Message), Failure> {
    let question = question(&address);
    let bytes = encoded(&question)?;
    let failed = |error: io::Error| Failure::io(&error, &server.to_string());
    let own: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(own, 0)).await.map_err(failed)?;
    socket.connect(server).await.map_err(failed)?;
    socket.send(&bytes).await.map_err(failed)?;
    let mut answer = vec![0; DATAGRAM_MAX];
    for _ in 0..FOREIGN_MAX {
        let length = socket.recv(&mut answer).await.map_err(failed)?;
        if let Some(message) = answer_to(&question, &answer[..length]) {
            return Ok((server, message));
        }
    }
    let text = format!("{server} sends datagrams that do not answer the question");
    Err(Failure::new(ProbeFailure::Protocol, text))
}

async fn over_tcp(address: &DnsAddress, server: SocketAddr, waiting: &Waiting) -> Result<Message, Failure> {
    let question = question(address);
    let bytes = encoded(&question)?;
    let mut stream = Bounded::new(tcp::connect_at(server, waiting).await?);
    waiting.set("the answer over TCP");
    let failed = |error: io::Error| Failure::io(&error, &address.server);
    let mut framed = u16::try_from(bytes.len()).unwrap_or_default().to_be_bytes().to_vec();
    framed.extend(bytes);
    stream.write_all(&framed).await.map_err(failed)?;
    let mut length = [0; 2];
    stream.read_exact(&mut length).await.map_err(failed)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).await.map_err(failed)?;
    answer_to(&question, &answer).ok_or_else(|| {
        let text = format!("{} answers another question over TCP, or what is no DNS", address.server);
        Failure::new(ProbeFailure::Protocol, text)
    })
}

/// The message, if it answers this question.
fn answer_to(question: &Message, bytes: &[u8]) -> Option<Message> {
    let message = Message::from_vec(bytes).ok()?;
    let is_answer = message.metadata.id == question.metadata.id
        && message.metadata.message_type == MessageType::Response
        && message.metadata.op_code == OpCode::Query
        // A server that refuses or cannot read the question may leave it out.
        && (message.queries.is_empty() || message.queries == question.queries);
    is_answer.then_some(message)
}

fn judge(answer: &Message, address: &DnsAddress, expected: &[String]) -> Result<ProbeOutcome, Failure> {
    let DnsAddress { server, name, record } = address;
    let about = format!("{server} about {} {record}", name.to_ascii());
    let fail = |kind, why: &str| Err(Failure::new(kind, format!("{about}: {why}")));
    const CODES: [(ResponseCode, ProbeFailure, &str); 3] = [
        (ResponseCode::NXDomain, ProbeFailure::Answer, "NXDOMAIN, the name does not exist"),
        (ResponseCode::ServFail, ProbeFailure::Upstream, "SERVFAIL, it cannot get or validate the answer"),
        (ResponseCode::Refused, ProbeFailure::Rejected, "REFUSED, it does not answer this client"),
    ];
    let code = answer.metadata.response_code;
    if let Some((_, kind, why)) = CODES.iter().find(|(known, ..)| *known == code) {
        return fail(*kind, why);
    }
    if code != ResponseCode::NoError {
        return fail(ProbeFailure::Protocol, &format!("it answers {code}"));
    }
    let answers: Vec<String> =
        answer.answers.iter().filter(|it| it.record_type() == *record).filter_map(shown).collect();
    if answers.is_empty() {
        return fail(ProbeFailure::Answer, "the name has no such record");
    }
    let missing: Vec<&str> =
        expected.iter().map(String::as_str).filter(|it| !answers.contains(&normal(it))).collect();
    if missing.is_empty() {
        return Ok(ProbeOutcome::Ok);
    }
    let mut got = answers.iter().take(SHOWN_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    if answers.len() > SHOWN_MAX {
        got.push_str(", …");
    }
    fail(ProbeFailure::Answer, &format!("expected {}, got {got}", missing.join(", ")))
}

/// What follows from a datagram that may answer the question with the number 1 for a record of this type.
#[cfg(fuzzing)]
pub fn judged(record: &str, datagram: &[u8]) -> Option<Result<(), String>> {
    let address = DnsAddress::parse(&format!("dns://192.0.2.1/host.test?type={record}"))?;
    let mut question = question(&address);
    question.metadata.id = 1;
    let answer = answer_to(&question, datagram)?;
    let judged = judge(&answer, &address, &["192.0.2.7".to_owned()]);
    Some(judged.map(drop).map_err(|failure| failure.text))
}

/// The data of a record as text.
fn shown(record: &Record) -> Option<String> {
    let mut text = String::new();
    // Some data has no form as text.
    write!(text, "{}", record.data).ok()?;
    Some(normal(&text))
}

/// One form for one meaning: addresses as Rust writes them, names in lower case and without the last dot.
fn normal(text: &str) -> String {
    match text.parse::<IpAddr>() {
        Ok(address) => address.to_string(),
        Err(_) => text.trim_end_matches('.').to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::{
        fact::ProbeKind,
        probe::{Clients, run_once, tests::probe},
    };

    /// What a server does over TCP that answers over UDP that its answer is too long for that.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum OverTcp {
        Refuses,
        Resets,
        Closes,
        IsSilent,
        AcceptsNothing,
        Answers,
    }

    async fn reply(stream: &mut TcpStream) {
        let mut length = [0; 2];
        stream.read_exact(&mut length).await.unwrap();
        let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut question).await.unwrap();
        let mut answer = Message::from_vec(&question).unwrap();
        answer.metadata.message_type = MessageType::Response;
        answer.metadata.response_code = ResponseCode::NXDomain;
        let answer = answer.to_vec().unwrap();
        stream.write_all(&u16::try_from(answer.len()).unwrap().to_be_bytes()).await.unwrap();
        stream.write_all(&answer).await.unwrap();
    }

    async fn outcome(over_tcp: OverTcp) -> ProbeOutcome {
        // The same port of both protocols; another test may have one of them.
        let (server, listener) = loop {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            if let Ok(server) = UdpSocket::bind(listener.local_addr().unwrap()).await {
                break (server, listener);
            }
        };
        let address = listener.local_addr().unwrap();
        let mut probe = probe(ProbeKind::Dns, &format!("dns://{address}/x.example"));
        probe.timeout = Duration::from_millis(300);
        let listener = Some(listener).filter(|_| over_tcp != OverTcp::Refuses);
        let serve = async {
            let mut question = [0; 512];
            let (length, peer) = server.recv_from(&mut question).await.unwrap();
            // A response that is truncated.
            question[2] |= 0x82;
            server.send_to(&question[..length], peer).await.unwrap();
            let Some(listener) = listener.as_ref().filter(|_| over_tcp != OverTcp::AcceptsNothing) else {
                return;
            };
            let (mut stream, _) = listener.accept().await.unwrap();
            match over_tcp {
                OverTcp::Resets => stream.set_zero_linger().unwrap(),
                OverTcp::Answers => reply(&mut stream).await,
                OverTcp::IsSilent => tokio::time::sleep(Duration::from_secs(1)).await,
                OverTcp::Refuses | OverTcp::Closes | OverTcp::AcceptsNothing => {}
            }
        };
        let clients = Clients::new().unwrap();
        let ((), (_, outcome)) = tokio::join!(serve, run_once(&probe, &clients));
        outcome
    }

    #[tokio::test]
    async fn a_server_that_answers_over_udp_is_there_whatever_it_does_over_tcp() {
        for (over_tcp, words) in [
            (OverTcp::Refuses, "needs TCP, which it refuses"),
            (OverTcp::Resets, "needs TCP, over which it breaks off the connection"),
            (OverTcp::Closes, "needs TCP, over which it breaks off the connection"),
            (OverTcp::IsSilent, "needs TCP, over which it does not answer within 300ms"),
            (OverTcp::AcceptsNothing, "needs TCP, over which it does not answer within 300ms"),
            (OverTcp::Answers, "NXDOMAIN"),
        ] {
            let ProbeOutcome::Failed(failure, text) = outcome(over_tcp).await else { panic!("{over_tcp:?}") };
            assert_eq!(failure, ProbeFailure::Answer, "{over_tcp:?}: {text}");
            assert!(text.contains(words), "{over_tcp:?}: {text}");
        }
    }
}
