//! The certificate that the daemon shows to its clients, and its key.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use crate::untrusted_file::{self, FileError};

/// A certificate with all that sign it has some 10 KiB.
const LARGEST: u64 = 1 << 20;

/// The protocol that a client may ask for (RFC 7301).
const ALPN: &[u8] = b"http/1.1";

/// Why two files are no certificate and its key; in words that stand alone.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    #[error(transparent)]
    Read(#[from] FileError),
    #[error("{}: holds no {what} in PEM; expected \"-----BEGIN {begin}-----\"", path.display())]
    Content { path: PathBuf, what: &'static str, begin: &'static str },
    #[error("{} and {} are no certificate and its key: {source}", cert.display(), key.display())]
    Pair { cert: PathBuf, key: PathBuf, source: rustls::Error },
}

/// What a server needs for TLS.
#[derive(Debug)]
pub struct ServerCertificate {
    pub config: Arc<ServerConfig>,
    /// Everybody on this host may read the key.
    pub key_is_public: bool,
}

impl ServerCertificate {
    /// Reads a certificate, with those that sign it, and its key. It may block.
    pub fn read(cert: &Path, key: &Path) -> Result<Self, PairError> {
        let pem = untrusted_file::read(cert, LARGEST)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or_else(|| PairError::Content {
            path: cert.to_owned(),
            what: "certificate",
            begin: "CERTIFICATE",
        })?;
        let (pem, mode) = untrusted_file::read_with_mode(key, LARGEST)?;
        let private = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| PairError::Content {
            path: key.to_owned(),
            what: "private key without a passphrase",
            begin: "PRIVATE KEY",
        })?;
        let no_pair = |source| PairError::Pair { cert: cert.to_owned(), key: key.to_owned(), source };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = versions
            .and_then(|config| config.with_no_client_auth().with_single_cert(chain, private))
            .map_err(no_pair)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self { config: Arc::new(config), key_is_public: mode & 0o004 != 0 })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_error_names_the_file_and_what_is_expected() {
        let folder = tempfile::tempdir().unwrap();
        let (cert, none) = (folder.path().join("cert.pem"), folder.path().join("none"));
        let error = |cert: &Path, key: &Path| ServerCertificate::read(cert, key).unwrap_err().to_string();
        assert_eq!(error(&none, &none), format!("{}: no such file", none.display()));
        fs::write(&cert, "hello").unwrap();
        let expected = "holds no certificate in PEM; expected \"-----BEGIN CERTIFICATE-----\"";
        assert_eq!(error(&cert, &none), format!("{}: {expected}", cert.display()));
        fs::write(&cert, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        assert!(error(&cert, &cert).contains("holds no private key without a passphrase in PEM"));
    }
}
