//! What is served over HTTP: where, and to whom.

use std::net::SocketAddr;

use super::value::absolute;
use crate::{
    config::{
        daemon::Config,
        error::Findings,
        file::Http,
        served::{HttpToken, ServedTlsKeys},
        tls::TlsIdentity,
        values::{At, Table, quote},
    },
    server_certificate::ServerCertificate,
};

/// Where to listen. Beyond loopback, others read what is sent, so it takes TLS and a token.
pub(super) fn listen(http: &Http, found: &mut Findings) -> Option<SocketAddr> {
    let Some(listen) = &http.listen else { return Config::default().http };
    if listen.get_ref().is_empty() {
        return None;
    }
    let Ok(address) = listen.get_ref().parse::<SocketAddr>() else {
        let message = format!(
            "found {}; expected an IP address and a port such as \"127.0.0.1:9464\", or \"\" to serve nothing",
            quote(listen.get_ref())
        );
        found.error(listen.span(), message);
        return None;
    };
    let missing = match (&http.tls, &http.token_file) {
        (None, None) => Some("`tls = { cert = \"…\", key = \"…\" }` and `token_file`"),
        (None, Some(_)) => Some("`tls = { cert = \"…\", key = \"…\" }`"),
        (Some(_), None) => Some("`token_file`"),
        (Some(_), Some(_)) => None,
    };
    if let Some(missing) = missing.filter(|_| !address.ip().is_loopback()) {
        let message = format!(
            "{address} is beyond loopback, where all who can reach it would read what is served; expected {missing} \
             beside it, or a loopback address, which `ssh -L` or a reverse proxy brings elsewhere"
        );
        found.error(listen.span(), message);
    }
    Some(address)
}

/// The certificate and its key, if they are a pair now.
pub(super) fn tls(written: &At<Table<ServedTlsKeys>>, found: &mut Findings) -> Option<TlsIdentity> {
    let written = written.as_ref()?;
    let Table(keys) = written.get_ref();
    let (Some(cert), Some(key)) = (&keys.cert, &keys.key) else {
        found.error(
            written.span(),
            "`tls` needs both `cert` and `key`; expected the files of a certificate and its key",
        );
        return None;
    };
    let cert_file = absolute(cert, "the absolute path of a file that holds a certificate in PEM", found);
    let key_file = absolute(key, "the absolute path of a file that holds a private key in PEM", found);
    let (cert_file, key_file) = cert_file.zip(key_file)?;
    match ServerCertificate::read(&cert_file, &key_file) {
        Ok(pair) if pair.key_is_public => {
            let warning =
                format!("every user of this host may read the key {} (chmod 600)", key_file.display());
            found.warn(key.span(), warning);
        }
        Ok(_) => {}
        Err(error) => found.error(written.span(), error.to_string()),
    }
    Some(TlsIdentity { cert: cert_file, key: key_file })
}

/// The token, if its file can be used now.
pub(super) fn token(written: &At<String>, found: &mut Findings) -> Option<HttpToken> {
    let file = written.as_ref()?;
    let path = absolute(file, "the absolute path of a file that holds a token alone", found)?;
    HttpToken::read(&path).map_err(|message| found.error(file.span(), message)).ok()
}

/// A password in it would be in every alert.
pub(super) fn public_url(http: &Http, found: &mut Findings) -> Option<String> {
    let written = http.public_url.as_ref()?;
    let text = written.get_ref().as_str();
    // The parser takes other forms for it too.
    let is_web = ["http://", "https://"].into_iter().any(|scheme| text.starts_with(scheme));
    let url = reqwest::Url::parse(text).ok();
    let is_right = |url: &reqwest::Url| {
        is_web && url.has_host() && url.username().is_empty() && url.password().is_none()
    };
    match url.filter(is_right) {
        Some(url) => Some(url.into()),
        None => {
            let message = "a wrong address; expected an http or https address without a user, such as \"https://db-1.example:9464/\"";
            found.error(written.span(), message);
            None
        }
    }
}
