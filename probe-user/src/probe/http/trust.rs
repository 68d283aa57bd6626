//! The certificates that https probes trust: those of the host's store.

use std::sync::Arc;

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};

/// What webpki says of a server that shows the certificate of an authority. It says so after it has checked the time.
const OWN_AUTHORITY: &str = "CaUsedAsEndEntity";

/// How to connect with TLS where the certificates of the host's store are trusted.
pub(super) fn of_host() -> Result<Arc<ClientConfig>, String> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let why = found.errors.first().map_or_else(|| "there are none".to_owned(), ToString::to_string);
        return Err(format!("the host's CA certificates cannot be loaded: {why}"));
    }
    trusting(found.certs)
}

/// How to connect with TLS where these certificates are trusted.
fn trusting(certificates: Vec<CertificateDer<'static>>) -> Result<Arc<ClientConfig>, String> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(certificates.iter().cloned());
    let verifier =
        WebPkiServerVerifier::builder(Arc::new(store)).build().map_err(|error| error.to_string())?;
    let verifier = Arc::new(Verifier { verifier, certificates });
    let config = ClientConfig::builder().dangerous().with_custom_certificate_verifier(verifier);
    Ok(Arc::new(config.with_no_client_auth()))
}

/// Verifies as webpki does, and takes a certificate that is itself in the store.
///
/// `openssl req -x509` makes a self-signed certificate that calls itself an authority. An operator who puts it into the
/// store trusts exactly this certificate, and curl and Python take it.
#[derive(Debug)]
struct Verifier {
    verifier: Arc<WebPkiServerVerifier>,
    certificates: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified =
            self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let own = |error: &Error| matches!(error, Error::InvalidCertificate(CertificateError::Other(other)) if other.to_string() == OWN_AUTHORITY);
        match verified {
            Err(error) if own(&error) && self.certificates.iter().any(|it| it == end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// Why there is no TLS session, for people.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "rustls has dozens of errors and adds more; its words serve"
)]
pub(crate) fn words(error: &Error) -> String {
    let Error::InvalidCertificate(certificate) = error else { return error.to_string() };
    let why = match certificate {
        CertificateError::UnknownIssuer => "no certificate of the host's store signs it",
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "it is not valid yet",
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is for another name"
        }
        CertificateError::Other(other) if other.to_string() == OWN_AUTHORITY => {
            "it is an authority's own, and the host's store does not hold it; add it there (update-ca-certificates)"
        }
        _ => return format!("its certificate is refused: {error}"),
    };
    format!("its certificate is refused: {why}")
}
