//! TLS sessions of probes: what is trusted, what is shown to the server, and how long its certificate is still valid.

mod certificate;
mod files;
mod host_store;
mod verify;
mod words;

use std::{
    future::pending,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use rustls::{ClientConfig, ClientConnection, InvalidMessage, RootCertStore, pki_types::ServerName};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::{Connect, TlsConnector, client::TlsStream};

use self::{
    files::Files,
    host_store::HostStore,
    verify::{Trusted, Verifier},
};
pub(super) use self::{verify::Check, words::words};
use super::{failure::Failure, progress::Waiting};
use crate::{config::TlsOptions, fact::ProbeFailure, file_stamp::Stamps};

/// The protocols that are offered to the server (RFC 7301); none leaves them out.
pub(super) type Alpn = &'static [&'static [u8]];

/// What a run waits for meanwhile.
pub(super) const HANDSHAKE: &str = "the TLS handshake";

/// The end of a request of any protocol in lines.
const LINE_END: &[u8] = b"\r\n\r\n";

/// The TLS that one probe wants.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) options: &'a TlsOptions,
    pub(super) check: Check,
    pub(super) alpn: Alpn,
    /// The host of the address, which `server_name` may replace.
    pub(super) host: &'a str,
    /// The server, for people.
    pub(super) peer: &'a str,
}

/// What the sessions of a probe are made from. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Tls {
    host: HostStore,
    /// The latest, which the next run of the same probe uses again.
    made: Arc<Mutex<Option<Made>>>,
}

#[derive(Clone, Debug)]
struct Made {
    options: TlsOptions,
    check: Check,
    alpn: Alpn,
    stamps: Stamps,
    /// What it trusts of the host's store, if it needs that.
    host: Option<Arc<Trusted>>,
    client: Client,
}

/// How to connect.
#[derive(Clone, Debug)]
struct Client {
    config: Arc<ClientConfig>,
    verifier: Arc<Verifier>,
}

impl Made {
    fn is_for(&self, wanted: &Wanted<'_>, host: Option<&Arc<Trusted>>) -> bool {
        self.options == *wanted.options
            && self.check == wanted.check
            && self.alpn == wanted.alpn
            && self.host.as_ref().map(Arc::as_ptr) == host.map(Arc::as_ptr)
    }
}

impl Tls {
    /// The same store of the host, and nothing else that another probe has made.
    pub(super) fn of_another_probe(&self) -> Self {
        Self { host: self.host.clone(), made: Arc::default() }
    }

    /// Reads the host's store, so that the first run need not.
    pub(super) fn prepare(&self) {
        self.host.prepare();
    }

    /// Makes the session. A certificate that expires soon is noted in `waiting`.
    pub(super) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        wanted: Wanted<'_>,
        waiting: &Waiting,
    ) -> Result<TlsStream<S>, Failure> {
        let name = wanted.options.server_name.as_deref().unwrap_or(wanted.host);
        let server = ServerName::try_from(name.to_owned()).map_err(|_| {
            let text =
                format!("cannot ask {} over TLS: {name:?} is no host name; set `server_name`", wanted.peer);
            Failure::new(ProbeFailure::CannotAsk, text)
        })?;
        let client = self.client(&wanted, waiting).await?;
        waiting.set(HANDSHAKE);
        let connecting = TlsConnector::from(client.config).connect(server.clone(), stream);
        let connected = connect_or_end_line(connecting, waiting).await;
        let stream = connected.map_err(|error| Failure::chain(&error, wanted.peer))?;
        if let Some(within) = wanted.options.expires_within {
            let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
            let expires = client.verifier.expires_before(chain, &server, SystemTime::now() + within);
            if let Some(expiry) = expires {
                let on = certificate::date(expiry.at);
                waiting.remark(format!("{expiry} of {} expires on {on}", wanted.peer));
            }
        }
        Ok(stream)
    }

    /// What the latest run used, unless a file has changed since.
    async fn client(&self, wanted: &Wanted<'_>, waiting: &Waiting) -> Result<Client, Failure> {
        let unusable =
            |why: String| Failure::new(ProbeFailure::CannotAsk, format!("cannot ask {}: {why}", wanted.peer));
        let host = match (wanted.check, &wanted.options.ca_file) {
            (Check::Nothing, _) | (_, Some(_)) => None,
            (Check::Full | Check::Chain, None) => Some(self.host.trusted(waiting).await.map_err(unusable)?),
        };
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let made = made.filter(|made| made.is_for(wanted, host.as_ref()));
        let known = made.as_ref().map(|made| made.stamps.clone()).unwrap_or_default();
        let read = files::read_if_changed(wanted.options, known, waiting).await;
        let read = read
            .map_err(|error| Failure::new(error.failure(), format!("cannot ask {}: {error}", wanted.peer)))?;
        let files = match (read, made) {
            (None, Some(made)) => return Ok(made.client),
            (Some(files), _) => files,
            (None, None) => Files::default(),
        };
        let trusted =
            host.clone().or_else(|| files.trusted.clone().map(|own| Arc::new(verify::trusting(own))));
        let client = make(wanted, &files, trusted.unwrap_or_default()).map_err(unusable)?;
        *self.made.lock().unwrap_or_else(PoisonError::into_inner) = Some(Made {
            options: wanted.options.clone(),
            check: wanted.check,
            alpn: wanted.alpn,
            stamps: files.stamps,
            host,
            client: client.clone(),
        });
        Ok(client)
    }
}

fn make(wanted: &Wanted<'_>, files: &Files, trusted: Arc<Trusted>) -> Result<Client, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(Verifier::new(trusted, wanted.check, &provider));
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?;
    let config = config.dangerous().with_custom_certificate_verifier(Arc::clone(&verifier) as _);
    let mut config = match &files.identity {
        None => config.with_no_client_auth(),
        Some(identity) => identity.show(config)?,
    };
    config.alpn_protocols = wanted.alpn.iter().map(|name| name.to_vec()).collect();
    // Each run proves that the whole handshake works.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Client { config: Arc::new(config), verifier })
}

/// A server that speaks plain text may wait for the end of a line, and one that serves a single client waits for this one's.
/// Before the time is over, it gets one, and its answer tells it from a server that hangs. Whatever else it answers comes too
/// late.
async fn connect_or_end_line<S: AsyncRead + AsyncWrite + Unpin>(
    mut connecting: Connect<S>,
    waiting: &Waiting,
) -> io::Result<TlsStream<S>> {
    tokio::select! {
        connected = &mut connecting => return connected,
        () = waiting.until_late() => {}
    }
    if let Some(stream) = connecting.get_mut() {
        stream.write_all(LINE_END).await?;
        stream.flush().await?;
    }
    match connecting.await {
        Err(error) if is_plain_text(&error) => Err(error),
        Ok(_) | Err(_) => pending().await,
    }
}

/// Whether the answer was no record of TLS.
fn is_plain_text(error: &io::Error) -> bool {
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(cause, Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)))
}

/// When one of these certificates expires, if that is before `limit`, in words.
#[cfg(fuzzing)]
pub(super) fn expiry(chain: &[&[u8]], limit: SystemTime) -> Option<String> {
    let provider = rustls::crypto::ring::default_provider();
    let verifier = Verifier::new(Arc::default(), Check::Full, &provider);
    let chain: Vec<_> = chain.iter().map(|der| rustls::pki_types::CertificateDer::from(*der)).collect();
    let name = ServerName::try_from("localhost").ok()?;
    verifier.expires_before(&chain, &name, limit).map(|expiry| certificate::date(expiry.at))
}

/// The first message of a client, of a session that goes no further.
pub(super) fn client_hello() -> Option<Vec<u8>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
    let config = config.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let name = ServerName::try_from("localhost").ok()?;
    let mut message = Vec::new();
    ClientConnection::new(Arc::new(config), name).ok()?.write_tls(&mut message).ok()?;
    Some(message)
}
