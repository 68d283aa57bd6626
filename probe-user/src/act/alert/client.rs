//! The HTTP client of alerts.

use std::{error::Error, iter, net::IpAddr, path::Path, time::Duration};

use reqwest::{Certificate, Client, ClientBuilder, Identity, Url, redirect};

use crate::{
    config::{TlsIdentity, TlsOptions},
    untrusted_file,
};

/// A bundle of all public authorities has 250 KiB.
const LARGEST: u64 = 4 << 20;

/// A client whose requests to this URL fail after `timeout`. It follows no redirect, because a request to one host
/// is not meant for another. It keeps no connection, because between two alerts the other side has closed it. It
/// asks the proxy of the environment, except for addresses of this host.
pub fn client(url: &Url, timeout: Duration) -> Result<Client, reqwest::Error> {
    let builder = builder(url, timeout);
    if url.scheme() == "https" {
        builder.build()
    } else {
        // Without TLS the client needs no system certificates, and a small host may have none.
        builder.tls_certs_only(iter::empty()).build()
    }
}

/// A client with TLS of its own. It reads files, and so may block.
pub fn client_with_tls(url: &Url, timeout: Duration, tls: &TlsOptions) -> Result<Client, String> {
    let mut builder = builder(url, timeout);
    if let Some(file) = &tls.ca_file {
        let trusted = Certificate::from_pem_bundle(&read(file)?).map_err(|error| unusable(file, error))?;
        if trusted.is_empty() {
            return Err(none_in(file));
        }
        builder = builder.tls_certs_only(trusted);
    }
    if let Some(TlsIdentity { cert, key }) = &tls.identity {
        let pem = [read(key)?, b"\n".to_vec(), read(cert)?].concat();
        builder = builder.identity(Identity::from_pem(&pem).map_err(|error| unusable(cert, error))?);
    }
    builder.tls_danger_accept_invalid_certs(tls.insecure).build().map_err(reason)
}

fn builder(url: &Url, timeout: Duration) -> ClientBuilder {
    // An error means that a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder()
        .user_agent(concat!("hostprobe/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .pool_max_idle_per_host(0)
        .timeout(timeout);
    if is_local(url) { builder.no_proxy() } else { builder }
}

/// The content of a file of `tls`.
pub(super) fn read(file: &Path) -> Result<Vec<u8>, String> {
    untrusted_file::read(file, LARGEST).map_err(|error| format!("a file of `tls` cannot be read: {error}"))
}

/// Why a file of trusted certificates cannot be used.
pub(super) fn none_in(file: &Path) -> String {
    format!("{}: holds no certificate in PEM", file.display())
}

fn unusable(file: &Path, error: reqwest::Error) -> String {
    format!("{}: holds nothing in PEM that can be used: {}", file.display(), reason(error))
}

fn is_local(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// An error with its causes in one line, without the URL, which may hold secrets.
pub fn reason(error: reqwest::Error) -> String {
    causes(&error.without_url())
}

/// An error with its causes in one line.
pub(super) fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
