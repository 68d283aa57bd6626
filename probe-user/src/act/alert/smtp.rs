//! Brings mails to a mail server: STARTTLS or TLS from the start, and a login.

use std::time::Duration;

use lettre::transport::smtp::{
    Error,
    authentication::{Credentials, Mechanism},
    client::{AsyncSmtpConnection, Certificate, CertificateStore, Identity, TlsParameters},
    extension::ClientId,
};
use percent_encoding::percent_decode_str;
use reqwest::Url;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};

use super::{
    client::{causes, none_in, read},
    error::AlertError,
    format::{Mail, Refused, RefusedKind},
    own_thread,
};
use crate::{
    config::{AlertReceiver, TlsIdentity, TlsOptions},
    emit::clipped,
    redact::redact,
};

/// The quoted part of a server's words, in bytes.
const QUOTED: usize = 300;

/// How a session is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encryption {
    Never,
    Starttls,
    FromTheStart,
}

/// A mail server, and how this host shows itself there.
#[derive(Clone, Debug)]
pub(super) struct MailServer {
    host: String,
    port: u16,
    login: Option<Credentials>,
    encryption: Encryption,
    tls: TlsOptions,
    hello: ClientId,
}

impl MailServer {
    pub(super) fn new(receiver: &AlertReceiver, host_name: &str) -> Result<Self, AlertError> {
        let bad = |reason: String| AlertError::Webhook { webhook: receiver.address.to_string(), reason };
        let url = Url::parse(receiver.address.expose()).map_err(|error| bad(error.to_string()))?;
        let (encryption, usual_port) =
            match (url.scheme(), receiver.mail.as_ref().is_some_and(|it| it.starttls)) {
                ("smtps", _) => (Encryption::FromTheStart, 465),
                ("smtp", true) => (Encryption::Starttls, 587),
                ("smtp", false) => (Encryption::Never, 587),
                (scheme, _) => return Err(bad(format!("its scheme is {scheme}"))),
            };
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let login = (!url.username().is_empty())
            .then(|| Credentials::new(decode(url.username()), decode(url.password().unwrap_or_default())));
        let is_name = |name: &str| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte))
        };
        let hello = match is_name(host_name) {
            true => ClientId::Domain(host_name.to_owned()),
            false => ClientId::default(),
        };
        let tls = receiver.tls.clone().unwrap_or_default();
        Ok(Self { host, port: url.port().unwrap_or(usual_port), login, encryption, tls, hello })
    }

    /// The server, for people.
    pub(super) fn name(&self) -> String {
        let scheme = if self.encryption == Encryption::FromTheStart { "smtps" } else { "smtp" };
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        format!("{scheme}://{host}:{}", self.port)
    }

    pub(super) fn host_and_port(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// Brings one mail, in one session.
    pub(super) async fn send(&self, mail: Mail, timeout: Duration) -> Result<(), Refused> {
        let server = self.clone();
        let prepare = move || {
            let tls = if server.encryption == Encryption::Never { None } else { Some(server.parameters()?) };
            Ok((server, tls, mail))
        };
        let sent = own_thread::run(timeout, prepare, move |(server, tls, mail)| async move {
            Ok(server.session(tls, &mail, timeout).await)
        });
        sent.await.unwrap_or_else(|why| Err(Refused { why, kind: RefusedKind::Busy(None) }))
    }

    async fn session(
        &self,
        tls: Option<TlsParameters>,
        mail: &Mail,
        timeout: Duration,
    ) -> Result<(), Refused> {
        let at = (self.host.as_str(), self.port);
        let from_the_start = tls.clone().filter(|_| self.encryption == Encryption::FromTheStart);
        let session =
            AsyncSmtpConnection::connect_tokio1(at, Some(timeout), &self.hello, from_the_start, None);
        let mut session =
            session.await.map_err(|error| unreached("the mail server cannot be reached", &error))?;
        if let Some(tls) = tls.filter(|_| self.encryption == Encryption::Starttls) {
            if !session.can_starttls() {
                let why =
                    "the mail server offers no STARTTLS; `starttls = false` sends without TLS".to_owned();
                return Err(Refused { why, kind: RefusedKind::Busy(None) });
            }
            session.starttls(tls, &self.hello).await.map_err(|error| unreached("STARTTLS failed", &error))?;
        }
        if let Some(login) = &self.login {
            let mechanisms = [Mechanism::Plain, Mechanism::Login];
            let login = session.auth(&mechanisms, login).await;
            login.map_err(|error| unreached("the mail server refuses the login", &error))?;
        }
        match session.send(&mail.envelope, &mail.bytes).await {
            Ok(_) => {
                // The mail is the server's by now.
                let _ = session.quit().await;
                Ok(())
            }
            Err(error) => {
                let kind = if error.is_permanent() { RefusedKind::Message } else { RefusedKind::Busy(None) };
                Err(Refused { why: words("the mail server refuses the mail", &error), kind })
            }
        }
    }

    /// What TLS is made from. It reads files, and so may block.
    pub(super) fn parameters(&self) -> Result<TlsParameters, String> {
        let TlsOptions { ca_file, identity, insecure, .. } = &self.tls;
        let mut tls = TlsParameters::builder(self.host.clone()).dangerous_accept_invalid_certs(*insecure);
        if *insecure {
            // A name is a part of what is not verified.
            tls = tls.dangerous_accept_invalid_hostnames(true);
        }
        if let Some(file) = ca_file {
            tls = tls.certificate_store(CertificateStore::None);
            let pem = read(file)?;
            if CertificateDer::pem_slice_iter(&pem).next().is_none() {
                return Err(none_in(file));
            }
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                let certificate = certificate
                    .map_err(|error| error.to_string())
                    .and_then(|der| Certificate::from_der(der.to_vec()).map_err(|error| error.to_string()))
                    .map_err(|error| format!("{}: holds no certificate in PEM: {error}", file.display()))?;
                tls = tls.add_root_certificate(certificate);
            }
        }
        if let Some(TlsIdentity { cert, key }) = identity {
            let identity = Identity::from_pem(&read(cert)?, &read(key)?);
            let identity = identity.map_err(|error| format!("{}: {}", cert.display(), causes(&error)))?;
            tls = tls.identify_with(identity);
        }
        tls.build().map_err(|error| format!("TLS cannot be used: {}", causes(&error)))
    }
}

fn unreached(what: &str, error: &Error) -> Refused {
    Refused { why: words(what, error), kind: RefusedKind::Busy(None) }
}

fn words(what: &str, error: &Error) -> String {
    // Its text has its causes.
    format!("{what}: {}", redact(&clipped(&error.to_string(), QUOTED)))
}
