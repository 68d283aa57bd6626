//! The certificates that probes trust: those of a file, or those of the host's store.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    AlertDescription, CertificateError, DigitallySignedStruct, Error, InvalidMessage, RootCertStore,
    SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};

use super::certificate::{date, not_after};
use crate::config::TlsOptions;

/// What webpki says of a server that shows the certificate of an authority. It says so after it has checked the time.
const OWN_AUTHORITY: &str = "CaUsedAsEndEntity";

/// What of a server's certificate is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::probe) enum Check {
    /// Who signs it, its time, and its name.
    Full,
    /// Who signs it, and its time.
    Chain,
    Nothing,
}

impl Check {
    pub(in crate::probe) const fn of(options: &TlsOptions) -> Self {
        if options.insecure { Self::Nothing } else { Self::Full }
    }
}

/// Certificates that are trusted.
#[derive(Debug)]
pub(super) struct Trusted {
    anchors: RootCertStore,
    certificates: Vec<CertificateDer<'static>>,
}

impl Default for Trusted {
    fn default() -> Self {
        Self { anchors: RootCertStore::empty(), certificates: Vec::new() }
    }
}

pub(super) fn trusting(certificates: Vec<CertificateDer<'static>>) -> Trusted {
    let mut anchors = RootCertStore::empty();
    anchors.add_parsable_certificates(certificates.iter().cloned());
    Trusted { anchors, certificates }
}

/// Verifies as webpki does, and takes a certificate that is itself trusted.
///
/// `openssl req -x509` makes a self-signed certificate that calls itself an authority. An operator who puts it into the
/// store trusts exactly this certificate, and curl and Python take it.
#[derive(Debug)]
pub(super) struct Verifier {
    trusted: Arc<Trusted>,
    check: Check,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    pub(super) fn new(trusted: Arc<Trusted>, check: Check, provider: &CryptoProvider) -> Self {
        Self { trusted, check, algorithms: provider.signature_verification_algorithms }
    }

    /// When the certificate expires, or one that signs it, if that is before `limit`.
    pub(super) fn expires_before(
        &self,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        limit: SystemTime,
    ) -> Option<SystemTime> {
        let (own, others) = chain.split_first()?;
        let expires = not_after(own)?;
        if expires <= limit {
            return Some(expires);
        }
        let limit = UnixTime::since_unix_epoch(limit.duration_since(SystemTime::UNIX_EPOCH).ok()?);
        match self.verify(own, others, name, limit) {
            Err(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
                Some(system_time(not_after))
            }
            Ok(()) | Err(_) => None,
        }
    }

    fn verify(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        if self.check == Check::Nothing {
            return Ok(());
        }
        let certificate = ParsedCertificate::try_from(own)?;
        let Trusted { anchors, certificates } = &*self.trusted;
        let signed = verify_server_cert_signed_by_trust_anchor(
            &certificate,
            anchors,
            others,
            now,
            self.algorithms.all,
        );
        match signed {
            Err(Error::InvalidCertificate(why))
                if is_unsigned(&why) && certificates.iter().any(|it| it == own) => {}
            signed => signed?,
        }
        if self.check == Check::Full { verify_server_name(&certificate, name) } else { Ok(()) }
    }
}

fn system_time(at: UnixTime) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(at.as_secs())
}

/// Whether a certificate that is itself trusted is refused for who signs it.
fn is_unsigned(why: &CertificateError) -> bool {
    *why == CertificateError::UnknownIssuer
        || matches!(why, CertificateError::Other(other) if other.to_string() == OWN_AUTHORITY)
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(end_entity, intermediates, server_name, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.check == Check::Nothing {
            // Certificates of version 1 cannot be read, and any other would be taken as well.
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.check == Check::Nothing {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Why there is no TLS session, for people.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "rustls has dozens of errors and adds more; its words serve"
)]
pub(in crate::probe) fn words(error: &Error) -> String {
    let certificate = match error {
        Error::InvalidCertificate(certificate) => certificate,
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            return "it asks for a client's certificate; name one by `cert` and `key` of `tls`".to_owned();
        }
        // Its answer is no record of TLS.
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            return "the server speaks plain text, not TLS".to_owned();
        }
        _ => return error.to_string(),
    };
    let why = match certificate {
        CertificateError::UnknownIssuer => "no certificate that is trusted signs it",
        CertificateError::ExpiredContext { not_after, .. } => {
            return format!("its certificate is refused: it expired on {}", date(system_time(*not_after)));
        }
        CertificateError::Expired => "it has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "it is not valid yet",
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is for another name"
        }
        CertificateError::Other(other) if other.to_string() == OWN_AUTHORITY => {
            "it is an authority's own and not trusted itself; add it to the host's store (update-ca-certificates) or name it by `ca_file`"
        }
        _ => return format!("its certificate is refused: {error}"),
    };
    format!("its certificate is refused: {why}")
}
