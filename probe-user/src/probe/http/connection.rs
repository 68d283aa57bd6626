//! One request over a connection of the probe's own, with TLS or without.
//!
//! A client's pool, redirects and proxies serve many requests; a probe sends one. The probe takes the request that the
//! client would send, and sends it itself. So it knows when the connection is made, and what the server sends is
//! bounded in bytes, whatever it is: interim responses, headers, chunks, TLS records.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use hyper::{
    Uri,
    ext::on_informational,
    header::{CONNECTION, HOST, HeaderValue},
    http::Version,
};
use reqwest::{Body, Response};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    target::Target,
    version::{self, HEAD_MAX},
};
use crate::{
    config::{HttpVersion, Probe},
    fact::ProbeFailure,
    probe::{
        failure::Failure,
        progress::Waiting,
        reading::Pace,
        tcp,
        tls::{Alpn, Check, Tls, Wanted},
        unix,
    },
};

const H2: &[u8] = b"h2";

/// More interim responses than this are no way to an answer.
const INTERIM_MAX: usize = 16;

/// Sends a request, and has its response judged while the connection is there. `body_max` bounds what may come after
/// the headers, in bytes on the wire. The request has a whole URL.
pub(super) async fn ask<T>(
    probe: &Probe,
    tls: &Tls,
    target: &Target,
    mut request: hyper::Request<Body>,
    body_max: usize,
    waiting: &Waiting,
    judge: impl AsyncFnOnce(Response) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let peer = target.peer();
    let left = Left::new(HEAD_MAX);
    let interim = left.clone();
    on_informational(&mut request, move |_| interim.take(HEAD_MAX / INTERIM_MAX));
    let judge = async |response| {
        left.allow(body_max);
        judge(response).await
    };
    let version = probe.http.version;
    if let Some(name) = &target.socket {
        let stream = Bounded {
            stream: unix::connect(name, waiting).await?,
            left: left.clone(),
            pace: Pace::default(),
        };
        return exchange(stream, request, version == HttpVersion::Http2, &peer, waiting, judge).await;
    }
    let stream = tcp::connect(&target.address(), waiting).await?;
    let stream = Bounded { stream, left: left.clone(), pace: Pace::default() };
    if target.url.scheme() != "https" {
        return exchange(stream, request, version == HttpVersion::Http2, &peer, waiting, judge).await;
    }
    let mut options = probe.tls.clone().unwrap_or_default();
    if !target.is_own {
        // What is for one server is not for another.
        (options.server_name, options.identity) = (None, None);
    }
    let check = Check::of(&options);
    let host = target.url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let wanted = Wanted { options: &options, check, alpn: offered(version), host, peer: &peer };
    let stream = tls.connect(stream, wanted, waiting).await?;
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(H2);
    if version == HttpVersion::Http2 && !is_http2 {
        let text = format!("{peer} does not speak HTTP/2: it chose no protocol (ALPN)");
        return Err(Failure::new(ProbeFailure::Rejected, text));
    }
    exchange(stream, request, is_http2, &peer, waiting, judge).await
}

/// What is offered to a server over TLS.
const fn offered(version: HttpVersion) -> Alpn {
    match version {
        HttpVersion::Auto => &[H2, b"http/1.1"],
        HttpVersion::Http1 => &[],
        HttpVersion::Http2 => &[H2],
    }
}

async fn exchange<T>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    mut request: hyper::Request<Body>,
    is_http2: bool,
    peer: &str,
    waiting: &Waiting,
    judge: impl AsyncFnOnce(Response) -> Result<T, Failure>,
) -> Result<T, Failure> {
    waiting.set("the response on an open connection");
    if is_http2 {
        *request.version_mut() = Version::HTTP_2;
        request.headers_mut().remove(CONNECTION);
        // It has the host in the URL.
        if let Some(host) = request.headers_mut().remove(HOST) {
            *request.uri_mut() = with_host(request.uri(), &host).ok_or_else(|| {
                let text = format!("cannot ask {peer}: {host:?} is no host of an HTTP/2 request");
                Failure::new(ProbeFailure::CannotAsk, text)
            })?;
        }
        return version::http2(stream, request, peer, judge).await;
    }
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).parse();
    *request.uri_mut() =
        path.map_err(|error| Failure::new(ProbeFailure::CannotAsk, format!("cannot ask {peer}: {error}")))?;
    version::http1(stream, request, peer, judge).await
}

/// A URL with the host that the request names.
fn with_host(url: &Uri, host: &HeaderValue) -> Option<Uri> {
    let mut parts = url.clone().into_parts();
    parts.authority = Some(host.to_str().ok()?.parse().ok()?);
    Uri::from_parts(parts).ok()
}

/// How many bytes may still come.
#[derive(Clone)]
struct Left(Arc<AtomicUsize>);

impl Left {
    fn new(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }

    fn allow(&self, more: usize) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// Takes what has come.
    fn take(&self, bytes: usize) {
        self.0.store(self.0.load(Ordering::Relaxed).saturating_sub(bytes), Ordering::Relaxed);
    }
}

/// A connection that fails once the server has sent more than it may.
struct Bounded<S> {
    stream: S,
    left: Left,
    pace: Pace,
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let left = self.left.0.load(Ordering::Relaxed);
        if left == 0 {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, version::TooLong)));
        }
        ready!(self.pace.poll_ready(context));
        let most = left.min(buffer.remaining());
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(most));
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut part))?;
        let length = part.filled().len();
        buffer.advance(length);
        self.left.take(length);
        self.pace.on_read(length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
