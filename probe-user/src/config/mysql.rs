//! The address of a MySQL server: `mysql://[USER[:PASSWORD]@]HOST[:PORT][/DATABASE][?socket=PATH&ssl-mode=MODE]`.

use std::{borrow::Cow, path::PathBuf};

use percent_encoding::percent_decode_str;
use reqwest::Url;

use super::{
    socket,
    tls::{DatabaseTls, TlsIdentity, TlsMode},
};

const DEFAULT_PORT: u16 = 3306;

#[derive(Debug, Default)]
pub struct MysqlAddress {
    /// `host:port`.
    pub peer: String,
    /// The host of `peer`.
    pub host: String,
    /// The server's Unix socket, where the address names it: a path, or `@NAME` for an abstract one. `peer` is not connected
    /// to then.
    pub socket: Option<String>,
    pub tls: DatabaseTls,
    /// None: the address names no user.
    pub account: Option<MysqlAccount>,
}

/// Who logs in, and to which database.
#[derive(Default)]
pub struct MysqlAccount {
    pub user: String,
    pub password: String,
    /// Empty: none.
    pub database: String,
}

/// It must not repeat any part of the address but the name of an option.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrongMysqlAddress {
    #[error("a wrong MySQL address")]
    Form,
    #[error("an address without a host")]
    NoHost,
    #[error("a wrong MySQL address: unknown option `{0}`")]
    UnknownOption(String),
    #[error("a wrong MySQL address: invalid value for option `{0}`")]
    OptionValue(String),
    #[error("a wrong MySQL address: `ssl-cert` and `ssl-key` go together")]
    Identity,
}

impl MysqlAddress {
    pub fn parse(text: &str) -> Result<Self, WrongMysqlAddress> {
        let bare = format!("mysql://{text}");
        let text = if text.contains("://") { text } else { &bare };
        let url = Url::parse(&with_host(text)).map_err(|_| WrongMysqlAddress::Form)?;
        let host = url.host_str().filter(|host| !host.is_empty() && url.scheme() == "mysql");
        let host = host.ok_or(WrongMysqlAddress::Form)?;
        let mut address = Self {
            peer: format!("{host}:{}", url.port().unwrap_or(DEFAULT_PORT)),
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            ..Self::default()
        };
        let (mut cert, mut key) = (None, None);
        for (option, value) in url.query_pairs() {
            let wrong = || WrongMysqlAddress::OptionValue(option.clone().into_owned());
            let file = || if value.starts_with('/') { Ok(PathBuf::from(&*value)) } else { Err(wrong()) };
            match &*option {
                "socket" if socket::is_right(&value) => address.socket = Some(value.into_owned()),
                "ssl-mode" | "ssl_mode" | "sslmode" => {
                    address.tls.mode = Some(TlsMode::of_mysql(&value).ok_or_else(wrong)?);
                }
                "ssl-ca" => address.tls.ca_file = Some(file()?),
                "ssl-cert" => cert = Some(file()?),
                "ssl-key" => key = Some(file()?),
                // An option of other clients.
                "require_ssl" if value == "true" => address.tls.mode = Some(TlsMode::Require),
                "require_ssl" | "prefer_socket" if ["true", "false"].contains(&&*value) => {}
                "socket" | "require_ssl" | "prefer_socket" => return Err(wrong()),
                _ => return Err(WrongMysqlAddress::UnknownOption(option.into_owned())),
            }
        }
        address.tls.identity = match (cert, key) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some(TlsIdentity { cert, key }),
            (Some(_), None) | (None, Some(_)) => return Err(WrongMysqlAddress::Identity),
        };
        if address.socket.is_none() && with_host(text) != text {
            return Err(WrongMysqlAddress::NoHost);
        }
        if !url.username().is_empty() {
            address.account = Some(MysqlAccount {
                user: decoded(url.username()),
                password: decoded(url.password().unwrap_or_default()),
                database: decoded(url.path().trim_start_matches('/')),
            });
        }
        Ok(address)
    }
}

impl std::fmt::Debug for MysqlAccount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MysqlAccount").field("user", &self.user).finish_non_exhaustive()
    }
}

/// The address with a host, which one with a socket may leave out.
fn with_host(text: &str) -> Cow<'_, str> {
    let Some(at) = text.find("://").map(|at| at + 3) else { return text.into() };
    let authority = text[at..].split(['/', '?', '#']).next().unwrap_or_default();
    let end = at + authority.len();
    if authority.is_empty() || authority.ends_with('@') {
        format!("{}localhost{}", &text[..end], &text[end..]).into()
    } else {
        text.into()
    }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_the_usual_port_and_decodes_its_account() {
        let address = MysqlAddress::parse("mysql://pro%40be:s%2F3c@db/my%20orders").unwrap();
        assert_eq!(address.peer, "db:3306");
        let account = address.account.unwrap();
        let parts = [account.user.as_str(), &account.password, &account.database];
        assert_eq!(parts, ["pro@be", "s/3c", "my orders"]);
        let peer = |text: &str| MysqlAddress::parse(text).unwrap().peer;
        assert_eq!(peer("mysql://[::1]/"), "[::1]:3306");
        assert_eq!(peer("mysql://[::1]:3307"), "[::1]:3307");
        assert_eq!(peer("127.0.0.1:3307"), "127.0.0.1:3307");
    }

    #[test]
    fn only_a_named_user_logs_in() {
        assert!(MysqlAddress::parse("mysql://db/").unwrap().account.is_none());
        assert!(MysqlAddress::parse("mysql://:s3cret@db/").unwrap().account.is_none());
        assert!(MysqlAddress::parse("mysql://u@db").unwrap().account.is_some());
    }

    #[test]
    fn options_name_a_socket_and_say_when_tls_is_used() {
        let socket = MysqlAddress::parse("mysql://u@localhost/?socket=/run/my%20sql.sock").unwrap().socket;
        assert_eq!(socket.as_deref(), Some("/run/my sql.sock"));
        let wrong = |text: &str| MysqlAddress::parse(text).unwrap_err();
        assert_eq!(
            wrong("mysql://u:s3cret@h/?ssl-mode=on"),
            WrongMysqlAddress::OptionValue("ssl-mode".to_owned())
        );
        assert_eq!(wrong("mysql://u@h/?ssl-cert=/c"), WrongMysqlAddress::Identity);
        assert_eq!(wrong("mysql://u@h/?color=red"), WrongMysqlAddress::UnknownOption("color".to_owned()));
        assert_eq!(wrong("mysql://u@h/?socket=rel"), WrongMysqlAddress::OptionValue("socket".to_owned()));
        assert_eq!(wrong("postgres://u@h"), WrongMysqlAddress::Form);
        for text in ["mysql://", "mysql:///path", "mysql://u@/path"] {
            assert_eq!(wrong(text), WrongMysqlAddress::NoHost, "{text}");
        }
        let mode = |text: &str| MysqlAddress::parse(text).unwrap().tls.mode;
        for (word, expected) in TlsMode::MYSQL {
            assert_eq!(mode(&format!("mysql://u@h/?ssl-mode={word}")), Some(expected), "{word}");
        }
        assert_eq!(mode("mysql://u@h/?require_ssl=true"), Some(TlsMode::Require));
        assert_eq!(mode("mysql://u@h"), None);
    }
}
