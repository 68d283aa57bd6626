//! The HTTP client of alerts and probes.

use std::{error::Error, iter, net::IpAddr, time::Duration};

use reqwest::{Client, Url, redirect};

/// A client whose requests to this URL fail after `timeout`. It follows no redirect, because a request to one host
/// is not meant for another. It keeps no connection, because between two alerts the other side has closed it. It
/// asks the proxy of the environment, except for addresses of this host.
pub fn client(url: &Url, timeout: Duration) -> Result<Client, reqwest::Error> {
    // An error means that a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .user_agent(concat!("hostprobe/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .pool_max_idle_per_host(0)
        .timeout(timeout);
    if is_local(url) {
        builder = builder.no_proxy();
    }
    if url.scheme() == "https" {
        builder.build()
    } else {
        // Without TLS the client needs no system certificates, and a small host may have none.
        builder.tls_certs_only(iter::empty()).build()
    }
}

fn is_local(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// An error with its causes in one line, without the URL, which may hold secrets.
pub fn reason(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
