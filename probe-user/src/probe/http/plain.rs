//! HTTP without TLS, over a connection of the probe's own.
//!
//! A client's pool, redirects and proxies serve many requests; a probe sends one. The probe takes the request that the
//! client would send, and sends it itself.

use std::{net::IpAddr, pin::pin};

use futures_util::future::{Either, select};
use hyper::{
    client::conn::http1::Builder,
    header::{ACCEPT, HOST, HeaderValue, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use reqwest::{Body, Request, Response};

use super::target::{AGENT, address, peer};
use crate::{
    fact::ProbeFailure,
    probe::{failure::Failure, progress::Waiting, tcp},
};

/// Whether a request can be sent like this: to this host or to an address. A name may stand for several addresses, of which
/// some lead nowhere; to choose well among them is the client's business.
pub(super) fn suits(request: &Request) -> bool {
    let url = request.url();
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    url.scheme() == "http" && (address.is_ok() || host == "localhost")
}

/// Sends a request, and has its response judged while the connection is there.
pub(super) async fn ask<T>(
    request: Request,
    waiting: &Waiting,
    judge: impl AsyncFnOnce(Response) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let url = request.url();
    let address = address(url).unwrap_or_default();
    let path = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    let peer = peer(url.as_str());
    let unusable = |error: &dyn std::fmt::Display| {
        Failure::new(ProbeFailure::Local, format!("cannot ask {peer}: {error}"))
    };

    let mut request = hyper::Request::<Body>::try_from(request).map_err(|error| unusable(&error))?;
    *request.uri_mut() = path.parse().map_err(|error| unusable(&error))?;
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::try_from(&peer).map_err(|error| unusable(&error))?);
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));

    let stream = tcp::connect(&address, waiting).await?;
    waiting.set("the response on an open connection");
    let chain = |error: hyper::Error| Failure::chain(&error, &peer);
    let (mut sender, connection) = Builder::new().handshake(TokioIo::new(stream)).await.map_err(chain)?;
    let asking = async move {
        let response = sender.send_request(request).await.map_err(chain)?;
        judge(response.map(Body::wrap).into()).await
    };
    match select(pin!(asking), pin!(connection)).await {
        Either::Left((judged, _)) => judged,
        // The request ends with the reason why the connection ended.
        Either::Right((_, asking)) => asking.await,
    }
}
