//! Who may ask over HTTP: over TLS if there is a certificate, and with the token if there is one.

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::hmac;
use rustls::ServerConfig;

use super::{handshake::Handshakes, refusals::Refusals, renewed::Renewed};
use crate::{
    config::{Config, HttpToken},
    redact,
    server_certificate::ServerCertificate,
};

/// What anybody may ask: that the daemon lives and watches, for load balancers and the like. They say no more than `ok`.
const OPEN: [&str; 2] = ["/livez", "/readyz"];

/// Jobs report in with tokens of their own (`serve/beat.rs`).
const BEAT: &str = "/beat/";

/// The ways to bring the token along. A browser asks its user for it, and sends it with each request to this address.
pub(super) const CHALLENGES: [&str; 2] = ["Basic realm=\"hostprobe: the token is the password\"", "Bearer"];

/// Who may ask. Clones share it. By default, everybody may, in plain text.
#[derive(Clone, Default)]
pub struct Access {
    certificate: Option<Arc<Renewed<Arc<ServerConfig>>>>,
    token: Option<Arc<Renewed<Token>>>,
    handshakes: Arc<Handshakes>,
    refusals: Arc<Refusals>,
}

impl Access {
    /// Reads the certificate and the token. It may block for some seconds. The error is a sentence.
    pub fn read(config: &Config) -> Result<Self, String> {
        let certificate = config.http_tls.as_ref().map(|identity| {
            let files = vec![identity.cert.clone(), identity.key.clone()];
            Renewed::read("certificate", files, certificate).map(Arc::new)
        });
        let token = config
            .http_token
            .as_ref()
            .map(|known| Renewed::read("token", vec![known.file.clone()], token).map(Arc::new));
        Ok(Self { certificate: certificate.transpose()?, token: token.transpose()?, ..Self::default() })
    }

    /// Whether it is read from files, which may change.
    pub(super) fn has_files(&self) -> bool {
        self.certificate.is_some() || self.token.is_some()
    }

    /// How clients ask: `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.certificate.is_some() { "https" } else { "http" }
    }

    /// What the handshakes of new connections show; None: there are none.
    pub(super) fn certificate(&self) -> Option<Arc<ServerConfig>> {
        self.certificate.as_ref().map(|certificate| certificate.get())
    }

    pub(super) fn handshakes(&self) -> &Handshakes {
        &self.handshakes
    }

    pub(super) fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    pub(super) fn takes_token(&self) -> bool {
        self.token.is_some()
    }

    /// Whether a request may be answered.
    pub(super) fn admits(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return true };
        if OPEN.contains(&uri.path()) || uri.path().starts_with(BEAT) {
            return true;
        }
        given(headers).is_some_and(|given| token.get().is(&given))
    }

    /// The answer to a request without the right token.
    pub(super) fn refuse(&self, peer: IpAddr) -> Response<Body> {
        self.refusals.note(peer);
        let why = "expected the token: `Authorization: Bearer TOKEN`, or as the password of any user\n";
        let mut response = (StatusCode::UNAUTHORIZED, why).into_response();
        let headers = response.headers_mut();
        for challenge in CHALLENGES {
            headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }

    /// Looks whether the files have changed.
    pub(super) async fn renew(&self) {
        if let Some(certificate) = &self.certificate {
            certificate.look().await;
        }
        if let Some(token) = &self.token {
            token.look().await;
        }
    }
}

fn certificate(files: &[PathBuf]) -> Result<Arc<ServerConfig>, String> {
    let [cert, key] = files else { return Err("expected a certificate and its key".to_owned()) };
    ServerCertificate::read(cert, key).map(|pair| pair.config).map_err(|error| error.to_string())
}

fn token(files: &[PathBuf]) -> Result<Token, String> {
    let [file] = files else { return Err("expected the file of a token".to_owned()) };
    let token = HttpToken::read(file)?;
    redact::remember(token.text.parts());
    Ok(Token::of(token.text.expose()))
}

/// The keyed digest of the token. Its comparison takes the same time for every other one, and says nothing about the token.
#[derive(Clone, Debug)]
struct Token(hmac::Tag);

impl Token {
    fn of(text: &str) -> Self {
        Self(hmac::sign(&key(), text.as_bytes()))
    }

    fn is(&self, given: &[u8]) -> bool {
        hmac::verify(&key(), given, self.0.as_ref()).is_ok()
    }
}

/// It need not be secret: what counts is that texts of one length or another become digests of one length.
fn key() -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, b"hostprobe http token")
}

/// The token that a request brings along. Two of them are none.
pub(super) fn given(headers: &HeaderMap) -> Option<Vec<u8>> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (all.next()?, all.next()) else { return None };
    let (scheme, credentials) = value.to_str().ok()?.split_once(' ')?;
    let credentials = credentials.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(credentials.as_bytes().to_vec());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let login = STANDARD.decode(credentials).ok()?;
    let colon = login.iter().position(|byte| *byte == b':')?;
    login.get(colon + 1..).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    const TOKEN: &str = "0123456789abcdef-token";

    fn with_token() -> (tempfile::TempDir, Access) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        fs::write(&file, format!("{TOKEN}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let token = Renewed::read("token", vec![file], token).unwrap();
        (folder, Access { token: Some(Arc::new(token)), ..Access::default() })
    }

    fn admits(access: &Access, path: &str, authorization: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for value in authorization {
            headers.append(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        access.admits(&path.parse().unwrap(), &headers)
    }

    #[test]
    fn only_the_token_opens_what_is_not_open() {
        let (_folder, access) = with_token();
        let bearer = format!("Bearer {TOKEN}");
        let basic = format!("basic {}", STANDARD.encode(format!("anyone:{TOKEN}")));
        for right in [&bearer, &basic] {
            assert!(admits(&access, "/api/v1/status", &[right]), "{right}");
        }
        let user = format!("Basic {}", STANDARD.encode(format!("{TOKEN}:")));
        let longer = format!("{bearer}x");
        for wrong in ["", "Bearer", "Bearer ", "Bearer x", "Basic !!", &user, &longer, TOKEN] {
            assert!(!admits(&access, "/api/v1/status", &[wrong]), "{wrong}");
        }
        assert!(!admits(&access, "/", &[]) && !admits(&access, "/health", &[]));
        assert!(!admits(&access, "/", &[&bearer, &bearer]));
        for open in ["/livez", "/readyz", "/beat/backup"] {
            assert!(admits(&access, open, &[]), "{open}");
        }
        assert!(!admits(&access, "/livez/x", &[]));
        assert!(admits(&Access::default(), "/", &[]));
    }

    #[test]
    fn a_token_that_others_may_read_or_guess_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let read = |text: &str, mode: u32| {
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            token(std::slice::from_ref(&file)).map(drop)
        };
        assert_eq!(read(TOKEN, 0o640), Ok(()));
        assert!(read(TOKEN, 0o644).unwrap_err().contains("chmod 640"));
        assert!(read("short", 0o600).unwrap_err().contains("can be guessed"));
        assert!(read("two words that are long", 0o600).unwrap_err().contains("without blanks"));
    }
}
