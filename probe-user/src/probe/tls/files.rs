//! The files of `tls`: read again once one of them has changed.

use std::path::{Path, PathBuf};

use rustls::{
    ClientConfig, ConfigBuilder,
    client::WantsClientCert,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use crate::{
    bounded_thread::NoAnswer,
    config::{TlsIdentity, TlsOptions},
    fact::ProbeFailure,
    file_stamp::{Stamps, stamp},
    probe::{failure::kind_without, progress::Waiting},
    untrusted_file::{self, FileError},
};

/// A bundle of all public authorities has 250 KiB.
const LARGEST: u64 = 4 << 20;

/// Why the files of `tls` cannot be used; in words that follow a colon.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsFileError {
    #[error("the file under `{key}` cannot be read: {source}")]
    Read { key: &'static str, source: FileError },
    #[error("{}: holds no {what} in PEM; expected \"-----BEGIN {begin}-----\" under `{key}`", path.display())]
    Content { key: &'static str, path: PathBuf, what: &'static str, begin: &'static str },
    #[error("the files of `tls` cannot be read: {0}")]
    NoAnswer(#[from] NoAnswer),
}

impl TlsFileError {
    pub(super) const fn failure(&self) -> ProbeFailure {
        match self {
            Self::NoAnswer(error) => kind_without(error),
            Self::Read { .. } | Self::Content { .. } => ProbeFailure::CannotAsk,
        }
    }
}

/// What the files hold.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub(super) stamps: Stamps,
    pub(super) trusted: Option<Vec<CertificateDer<'static>>>,
    pub(super) identity: Option<Identity>,
}

/// A client's certificate, with those that sign it, and its key.
#[derive(Debug)]
pub(super) struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    paths: TlsIdentity,
}

impl Identity {
    /// Has the client show it.
    pub(super) fn show(
        &self,
        config: ConfigBuilder<ClientConfig, WantsClientCert>,
    ) -> Result<ClientConfig, String> {
        config.with_client_auth_cert(self.chain.clone(), self.key.clone_key()).map_err(|error| {
            let TlsIdentity { cert, key } = &self.paths;
            format!("{} and {} are no certificate and its key: {error}", cert.display(), key.display())
        })
    }
}

/// The files, if they have changed since these `stamps`; None if not.
pub(super) async fn read_if_changed(
    options: &TlsOptions,
    known: Stamps,
    waiting: &Waiting,
) -> Result<Option<Files>, TlsFileError> {
    if options.files().next().is_none() {
        return Ok(None);
    }
    let options = options.clone();
    let work = move || {
        let stamps: Stamps = options.files().map(|(_, path)| stamp(path)).collect();
        // What cannot be looked at has its reason in the error of its read.
        if stamps == known && !stamps.contains(&None) { Ok(None) } else { read(&options, stamps).map(Some) }
    };
    waiting.for_files("the files of `tls`", work).await?
}

fn read(options: &TlsOptions, stamps: Stamps) -> Result<Files, TlsFileError> {
    let TlsOptions { ca_file, identity, .. } = options;
    let trusted = ca_file.as_deref().map(|path| certificates("ca_file", path)).transpose()?;
    let identity = match identity {
        None => None,
        Some(paths) => {
            let chain = certificates("cert", &paths.cert)?;
            let key = private_key("key", &paths.key)?;
            Some(Identity { chain, key, paths: paths.clone() })
        }
    };
    Ok(Files { stamps, trusted, identity })
}

fn bytes(key: &'static str, path: &Path) -> Result<Vec<u8>, TlsFileError> {
    untrusted_file::read(path, LARGEST).map_err(|source| TlsFileError::Read { key, source })
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let bytes = bytes(key, path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    found.ok().filter(|found| !found.is_empty()).ok_or_else(|| {
        let path = path.to_owned();
        TlsFileError::Content { key, path, what: "certificate", begin: "CERTIFICATE" }
    })
}

fn private_key(key: &'static str, path: &Path) -> Result<PrivateKeyDer<'static>, TlsFileError> {
    PrivateKeyDer::from_pem_slice(&bytes(key, path)?).map_err(|_| {
        let path = path.to_owned();
        TlsFileError::Content { key, path, what: "private key without a passphrase", begin: "PRIVATE KEY" }
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    async fn error(options: &TlsOptions) -> String {
        read_if_changed(options, Stamps::new(), &Waiting::default()).await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn an_error_names_the_file_its_key_and_what_is_expected() {
        let folder = tempfile::tempdir().unwrap();
        let (ca, none) = (folder.path().join("ca.pem"), folder.path().join("none"));
        let of_ca = |path: &PathBuf| TlsOptions { ca_file: Some(path.clone()), ..TlsOptions::default() };
        fs::write(&ca, "hello").unwrap();
        let expected = format!(
            "{}: holds no certificate in PEM; expected \"-----BEGIN CERTIFICATE-----\" under `ca_file`",
            ca.display()
        );
        assert_eq!(error(&of_ca(&ca)).await, expected);
        let missing = error(&of_ca(&none)).await;
        assert_eq!(
            missing,
            format!("the file under `ca_file` cannot be read: {}: no such file", none.display())
        );
        let folder_as_file = error(&of_ca(&folder.path().to_owned())).await;
        assert!(folder_as_file.ends_with("it is a directory; expected a regular file"), "{folder_as_file}");
        fs::write(&ca, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        let identity = Some(TlsIdentity { cert: ca.clone(), key: ca.clone() });
        let key = error(&TlsOptions { identity, ..TlsOptions::default() }).await;
        assert!(key.contains("holds no private key without a passphrase in PEM"), "{key}");
    }

    #[tokio::test]
    async fn files_are_read_again_once_they_have_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        fs::write(&path, pem).unwrap();
        let waiting = Waiting::default();
        let options = TlsOptions { ca_file: Some(path.clone()), ..TlsOptions::default() };
        let first = read_if_changed(&options, Stamps::new(), &waiting).await.unwrap().expect("it is new");
        assert_eq!(first.trusted.map(|found| found.len()), Some(1));
        assert!(read_if_changed(&options, first.stamps.clone(), &waiting).await.unwrap().is_none());
        // A renewal often replaces the file by another one.
        let new = folder.path().join("new.pem");
        fs::write(&new, pem.repeat(2)).unwrap();
        fs::rename(&new, &path).unwrap();
        let second =
            read_if_changed(&options, first.stamps, &waiting).await.unwrap().expect("it has changed");
        assert_eq!(second.trusted.map(|found| found.len()), Some(2));
        let nothing = read_if_changed(&TlsOptions::default(), Stamps::new(), &waiting).await.unwrap();
        assert!(nothing.is_none(), "without files nothing is read");
    }
}
