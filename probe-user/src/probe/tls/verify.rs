//! The certificates that probes trust: those of a file, or those of the host's store.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};

use super::certificate::{not_after, subject};
use crate::config::TlsOptions;

/// What webpki says of a server that shows the certificate of an authority. It says so after it has checked the time.
pub(super) const OWN_AUTHORITY: &str = "CaUsedAsEndEntity";

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

    /// The certificate, or one that signs it, that expires before `limit`.
    pub(super) fn expires_before(
        &self,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        limit: SystemTime,
    ) -> Option<Expiry> {
        let (own, others) = chain.split_first()?;
        let expires = not_after(own)?;
        if expires <= limit {
            return Some(Expiry { at: expires, intermediate: None });
        }
        let limit = UnixTime::since_unix_epoch(limit.duration_since(SystemTime::UNIX_EPOCH).ok()?);
        match self.verify(own, others, name, limit) {
            Err(error) => Expiry::of(&error, others),
            Ok(()) => None,
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

/// A certificate of a server's chain that has expired, or is about to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Expiry {
    pub(super) at: SystemTime,
    /// Whose certificate it is, if it is not the server's own.
    pub(super) intermediate: Option<String>,
}

impl Expiry {
    /// The one that webpki refuses. It names no certificate, and the time tells which of `others` it is.
    fn of(error: &Error, others: &[CertificateDer<'_>]) -> Option<Self> {
        let Error::InvalidCertificate(CertificateError::ExpiredContext { not_after: at, .. }) = error else {
            return None;
        };
        let at = system_time(*at);
        let intermediate = others.iter().find(|other| not_after(other) == Some(at));
        let name = |other: &CertificateDer<'_>| subject(other).unwrap_or_else(|| "without a name".to_owned());
        Some(Self { at, intermediate: intermediate.map(name) })
    }
}

impl fmt::Display for Expiry {
    /// Which certificate it is, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.intermediate {
            Some(name) => write!(f, "the intermediate certificate {name:?}"),
            None => f.write_str("the certificate"),
        }
    }
}

impl std::error::Error for Expiry {}

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
        self.verify(end_entity, intermediates, server_name, now).map_err(|error| {
            let expiry = Expiry::of(&error, intermediates).filter(|expiry| {
                // Both may have the same end. Then the server's own comes first.
                expiry.intermediate.is_some() && not_after(end_entity) != Some(expiry.at)
            });
            expiry.map_or(error, |expiry| CertificateError::Other(OtherError(Arc::new(expiry))).into())
        })?;
        Ok(ServerCertVerified::assertion())
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

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    use super::*;
    use crate::probe::tls::words;

    // "Root" is valid until 2120, "Issuing CA 2" of the organization "Example" until 2030, "db.example" until 2040.
    const ROOT: &str = "\
        MIIBUzCB+qADAgECAhQ+sX5Ca7DkpEx3E2u8JJZN+6+6vTAKBggqhkjOPQQDAjAPMQ0wCwYDVQQDDARSb290MCAXDTIwMDEwMTAw\
        MDAwMFoYDzIxMjAwMTAxMDAwMDAwWjAPMQ0wCwYDVQQDDARSb290MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE2tNnSiv8UcLm\
        Nl4Kfg52Z13Tyro+t3si+IsnisnZXf83kKr4jj6lKgBc5b8NxEHYceUIJFSiWY7a3BEgRrmMLaMyMDAwDwYDVR0TAQH/BAUwAwEB\
        /zAdBgNVHQ4EFgQU/70/LWwoQzOf716qt4rkGfYFDFUwCgYIKoZIzj0EAwIDSAAwRQIgIYI/FrgVQp3KlM/WmgQK4ZHnhez+WT+s\
        ntH9UR3X75MCIQD1fOvbh2cE8RcRttS9CuA2QiVLrUUjwgllzszqLkzwGA==";
    const INTERMEDIATE: &str = "\
        MIIBjTCCATOgAwIBAgIUJ5dm3qgCZ5es0n7eAWNIjRj4AXMwCgYIKoZIzj0EAwIwDzENMAsGA1UEAwwEUm9vdDAeFw0yMDAxMDEw\
        MDAwMDBaFw0zMDAxMDEwMDAwMDBaMCkxEDAOBgNVBAoMB0V4YW1wbGUxFTATBgNVBAMMDElzc3VpbmcgQ0EgMjBZMBMGByqGSM49\
        AgEGCCqGSM49AwEHA0IABH+KVfEt80EIuJVb1aqmbPU5iaf2Cz67x6f7InlyCRQqc6vJ2BnmUZvRXF5rmzf+WHfcomEUUZ72OSDD\
        Q//impejUzBRMA8GA1UdEwEB/wQFMAMBAf8wHQYDVR0OBBYEFKRkgkV3CrrIESLNjpC+mBsk3skzMB8GA1UdIwQYMBaAFP+9Py1s\
        KEMzn+9eqreK5Bn2BQxVMAoGCCqGSM49BAMCA0gAMEUCIQCtD6ZJJSmd5LOgbYekBJynt6khcWKSfAOr2IJ7GucCAgIgd+24afbV\
        5bgauuFmrzwAgIXgrD95i8lnSYzevRx0qYI=";
    const LEAF: &str = "\
        MIIBmTCCAT+gAwIBAgIUICZnqjx/MEvw2xpPpjbGwwh8LhowCgYIKoZIzj0EAwIwKTEQMA4GA1UECgwHRXhhbXBsZTEVMBMGA1UE\
        AwwMSXNzdWluZyBDQSAyMB4XDTIwMDEwMTAwMDAwMFoXDTQwMDEwMTAwMDAwMFowFTETMBEGA1UEAwwKZGIuZXhhbXBsZTBZMBMG\
        ByqGSM49AgEGCCqGSM49AwEHA0IABM6TkU7+Nh0j8JfVHtNafXI3B/6UipEkfjfi1KokU17SO3EcMZxhoeItsgyJLGTIVmfFrhL4\
        J07tBihxBi0O5z+jWTBXMBUGA1UdEQQOMAyCCmRiLmV4YW1wbGUwHQYDVR0OBBYEFECFmY7DQ9/Cyi+HuyXXXSz7lbWsMB8GA1Ud\
        IwQYMBaAFKRkgkV3CrrIESLNjpC+mBsk3skzMAoGCCqGSM49BAMCA0gAMEUCIF4Dsei77OrXjXI1HLyu/XTPjn2xWTRdSVkcUy0R\
        28CDAiEAgrGwI4yuBp5cOo9jgNQTlRHtFKeP2+QZoWjwtrcyJUI=";

    fn der(text: &str) -> CertificateDer<'static> {
        CertificateDer::from(STANDARD.decode(text).unwrap())
    }

    /// The first day of a year, nearly.
    fn year(year: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs((year - 1970) * 31_556_952 + 86_400))
    }

    fn verifier() -> Verifier {
        let provider = rustls::crypto::ring::default_provider();
        Verifier::new(Arc::new(trusting(vec![der(ROOT)])), Check::Full, &provider)
    }

    #[test]
    fn the_certificate_that_has_expired_is_named() {
        let name = ServerName::try_from("db.example").unwrap();
        let verified = |others: &[CertificateDer<'_>], at| {
            verifier().verify_server_cert(&der(LEAF), others, &name, &[], at).map(drop)
        };
        let others = [der(INTERMEDIATE)];
        verified(&others, year(2026)).unwrap();
        for (at, refused) in [
            (
                2035,
                "its certificate is refused: the intermediate certificate \"Issuing CA 2\" that signs it expired on 2030-01-01 00:00 UTC",
            ),
            (2045, "its certificate is refused: it expired on 2040-01-01 00:00 UTC"),
            (2015, "its certificate is refused: it is not valid yet"),
        ] {
            assert_eq!(words(&verified(&others, year(at)).unwrap_err()), refused);
        }
        let unknown = words(&verified(&[], year(2026)).unwrap_err());
        assert!(unknown.contains("no certificate that is trusted signs it"), "{unknown}");
    }

    #[test]
    fn the_certificate_that_expires_next_is_named() {
        let name = ServerName::try_from("db.example").unwrap();
        let chain = [der(LEAF), der(INTERMEDIATE)];
        let before = |at| {
            let expiry = verifier().expires_before(&chain, &name, system_time(year(at)));
            expiry.map(|expiry| expiry.to_string())
        };
        assert_eq!(before(2029), None);
        assert_eq!(before(2031).as_deref(), Some("the intermediate certificate \"Issuing CA 2\""));
        assert_eq!(before(2041).as_deref(), Some("the certificate"));
    }
}
