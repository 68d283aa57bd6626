//! gRPC health checks: `grpc.health.v1.Health/Check`, over HTTP/2.
//!
//! The protocol is one unary call: a request and a response with one field each. That is less than a client library brings.

use std::{fmt::Display, io};

use bytes::Bytes;
use h2::{RecvStream, client};
use http::{HeaderMap, Request, header};

use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    bounded::Bounded,
    failure::Failure,
    progress::Waiting,
    tcp,
    tls::{Check, Tls, Wanted},
};
use crate::{
    config::{GrpcAddress, Probe},
    fact::{ProbeFailure, ProbeOutcome},
};

/// The longest response. The one there is has two bytes, and five of a frame.
const ANSWER_MAX: usize = 1024;

/// The longest list of headers and of trailers.
const HEADERS_MAX: u32 = 16 << 10;

/// The longest message of a server that is shown.
const MESSAGE_MAX: usize = 300;

pub(super) async fn run(probe: &Probe, tls: &Tls, waiting: &Waiting) -> Result<ProbeOutcome, Failure> {
    let Some(address) = GrpcAddress::parse(probe.target.expose()) else {
        return Err(Failure::new(ProbeFailure::CannotAsk, "the address is none of gRPC"));
    };
    let stream = Bounded::new(tcp::connect(&address.peer, waiting).await?);
    if !address.is_tls {
        return ask(stream, &address, waiting).await;
    }
    let options = probe.tls.clone().unwrap_or_default();
    let check = Check::of(&options);
    let (host, peer) = (&address.host, &address.peer);
    let wanted = Wanted { options: &options, check, alpn: &[b"h2"], host, peer };
    ask(tls.connect(stream, wanted, waiting).await?, &address, waiting).await
}

async fn ask(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    address: &GrpcAddress,
    waiting: &Waiting,
) -> Result<ProbeOutcome, Failure> {
    let GrpcAddress { peer, service, is_tls, .. } = address;
    waiting.set("the HTTP/2 session");
    let failed = |error: h2::Error| of_h2(&error, peer);
    let handshake = client::Builder::new()
        .max_header_list_size(HEADERS_MAX)
        .initial_window_size(ANSWER_MAX as u32)
        .enable_push(false)
        .handshake::<_, Bytes>(stream);
    let (requests, connection) = handshake.await.map_err(failed)?;
    let asking = async {
        let mut requests = requests.ready().await.map_err(failed)?;
        waiting.set("the answer");
        let scheme = if *is_tls { "https" } else { "http" };
        let uri = format!("{scheme}://{peer}/grpc.health.v1.Health/Check");
        let request = Request::post(uri)
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .header(header::USER_AGENT, concat!("hostprobe/", env!("CARGO_PKG_VERSION")))
            .body(());
        let request = request.map_err(|error| Failure::new(ProbeFailure::CannotAsk, error.to_string()))?;
        let (response, mut body) = requests.send_request(request, false).map_err(failed)?;
        body.send_data(question(service), true).map_err(failed)?;
        let (head, mut answer) = response.await.map_err(failed)?.into_parts();
        if head.status != http::StatusCode::OK {
            return Err(of_http(head.status.as_u16(), peer));
        }
        // A server that has nothing but a status sends it at once, instead of behind a message.
        if head.headers.contains_key("grpc-status") {
            return judge(&[], &head.headers, peer, service);
        }
        let message = read(&mut answer, peer).await?;
        let trailers = answer.trailers().await.map_err(failed)?.unwrap_or_default();
        judge(&message, &trailers, peer, service)
    };
    tokio::select! {
        outcome = asking => outcome,
        ended = connection => Err(match ended {
            Err(error) => of_h2(&error, peer),
            Ok(()) => Failure::io(&io::ErrorKind::UnexpectedEof.into(), peer),
        }),
    }
}

/// A frame with a `HealthCheckRequest`: the name of a service in field 1.
fn question(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        // The configuration bounds the name, so that its length is one byte.
        message.extend([0x0a, u8::try_from(service.len()).unwrap_or_default()]);
        message.extend_from_slice(service.as_bytes());
    }
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len()).unwrap_or_default().to_be_bytes());
    frame.extend(message);
    frame.into()
}

async fn read(answer: &mut RecvStream, peer: &str) -> Result<Vec<u8>, Failure> {
    let mut message = Vec::new();
    while let Some(part) = answer.data().await {
        let part = part.map_err(|error| of_h2(&error, peer))?;
        if message.len() + part.len() > ANSWER_MAX {
            let text = format!("{peer} answers a health check with more than {ANSWER_MAX} bytes");
            return Err(Failure::new(ProbeFailure::Protocol, text));
        }
        message.extend_from_slice(&part);
        // It is no error if the stream has ended.
        let _ = answer.flow_control().release_capacity(part.len());
    }
    Ok(message)
}

/// `ServingStatus` in `grpc.health.v1`.
fn judge(message: &[u8], trailers: &HeaderMap, peer: &str, service: &str) -> Result<ProbeOutcome, Failure> {
    let about = || match service {
        "" => peer.to_owned(),
        service => format!("{peer} about {service:?}"),
    };
    let fail = |kind, why: &dyn Display| Err(Failure::new(kind, format!("{}: {why}", about())));
    let code = trailers.get("grpc-status").and_then(|status| status.to_str().ok()?.parse::<u32>().ok());
    let Some(code) = code else {
        return fail(ProbeFailure::Protocol, &"the answer has no grpc-status");
    };
    if code != 0 {
        let (kind, name) = of_code(code);
        let said = trailers.get("grpc-message").and_then(|said| said.to_str().ok()).unwrap_or_default();
        let said = &said[..said.floor_char_boundary(MESSAGE_MAX)];
        let why = if said.is_empty() { name.to_owned() } else { format!("{name}: {said}") };
        return fail(kind, &why);
    }
    match status_in(message) {
        Some(1) => Ok(ProbeOutcome::Ok),
        Some(0) => fail(ProbeFailure::Rejected, &"it reports UNKNOWN"),
        Some(2) => fail(ProbeFailure::Status, &"it reports NOT_SERVING"),
        Some(3) => fail(ProbeFailure::Rejected, &"it reports SERVICE_UNKNOWN"),
        Some(other) => {
            fail(ProbeFailure::Protocol, &format!("it reports the status {other}, which does not exist"))
        }
        None => fail(ProbeFailure::Protocol, &"the answer is no HealthCheckResponse"),
    }
}

/// The status in a frame with a `HealthCheckResponse`: a number in field 1, of which zero is left out.
fn status_in(frame: &[u8]) -> Option<u8> {
    let (head, message) = frame.split_at_checked(5)?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    if head[0] != 0 || usize::try_from(length).ok()? != message.len() {
        return None;
    }
    match message {
        [] => Some(0),
        [0x08, status @ 0..0x80] => Some(*status),
        _ => None,
    }
}

/// The status in a frame, which is the first byte of a number.
#[cfg(fuzzing)]
pub fn status_in_frame(frame: &[u8]) -> Option<u8> {
    status_in(frame)
}

/// What a status of a call says (`google.rpc.Code`), and its name.
fn of_code(code: u32) -> (ProbeFailure, &'static str) {
    match code {
        1 => (ProbeFailure::Status, "CANCELLED"),
        2 => (ProbeFailure::Status, "UNKNOWN"),
        3 => (ProbeFailure::Rejected, "INVALID_ARGUMENT"),
        4 => (ProbeFailure::Upstream, "DEADLINE_EXCEEDED"),
        5 => (ProbeFailure::Rejected, "NOT_FOUND, it does not know this service"),
        7 => (ProbeFailure::Auth, "PERMISSION_DENIED"),
        8 => (ProbeFailure::Busy, "RESOURCE_EXHAUSTED"),
        12 => (ProbeFailure::Rejected, "UNIMPLEMENTED, it has no health checks"),
        13 => (ProbeFailure::Status, "INTERNAL"),
        14 => (ProbeFailure::Upstream, "UNAVAILABLE"),
        15 => (ProbeFailure::Status, "DATA_LOSS"),
        16 => (ProbeFailure::Auth, "UNAUTHENTICATED"),
        _ => (ProbeFailure::Status, "an error"),
    }
}

/// A proxy, or a server without gRPC, answers with an HTTP status.
fn of_http(status: u16, peer: &str) -> Failure {
    let kind = match status {
        401 | 403 => ProbeFailure::Auth,
        429 => ProbeFailure::Busy,
        502..=504 => ProbeFailure::Upstream,
        400..=499 => ProbeFailure::Rejected,
        _ => ProbeFailure::Protocol,
    };
    Failure::new(kind, format!("{peer} answers a gRPC call with the HTTP status {status}"))
}

fn of_h2(error: &h2::Error, peer: &str) -> Failure {
    match error.get_io() {
        Some(io) => Failure::io(io, peer),
        None if error.is_go_away() && error.is_remote() => {
            Failure::new(ProbeFailure::Reset, format!("{peer} ended the connection: {error}"))
        }
        None => Failure::new(
            ProbeFailure::Protocol,
            format!("{peer} does not speak HTTP/2 as gRPC does: {error}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_and_an_answer_are_frames_with_one_field() {
        assert_eq!(question("").as_ref(), [0, 0, 0, 0, 0]);
        assert_eq!(question("a.B").as_ref(), b"\0\0\0\0\x05\x0a\x03a.B");
        assert_eq!([status_in(b"\0\0\0\0\0"), status_in(b"\0\0\0\0\x02\x08\x02")], [Some(0), Some(2)]);
        for wrong in [&b""[..], b"\0\0\0\0", b"\x01\0\0\0\0", b"\0\0\0\0\x01", b"\0\0\0\0\x02\x08\x80"] {
            assert_eq!(status_in(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_status_says_whether_a_restart_can_help() {
        let asked = |message: &[u8], status: &str| {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", status.parse().unwrap());
            judge(message, &trailers, "h:1", "").map_err(|failure| failure.kind)
        };
        assert_eq!(asked(b"\0\0\0\0\x02\x08\x01", "0"), Ok(ProbeOutcome::Ok));
        assert_eq!(asked(b"\0\0\0\0\x02\x08\x02", "0"), Err(ProbeFailure::Status));
        assert_eq!(asked(b"\0\0\0\0\x02\x08\x03", "0"), Err(ProbeFailure::Rejected));
        assert_eq!(asked(b"", "5"), Err(ProbeFailure::Rejected));
        assert_eq!(asked(b"", "12"), Err(ProbeFailure::Rejected));
        assert_eq!(asked(b"", "14"), Err(ProbeFailure::Upstream));
        assert_eq!(asked(b"", "16"), Err(ProbeFailure::Auth));
        assert_eq!(asked(b"", "x"), Err(ProbeFailure::Protocol));
    }
}
