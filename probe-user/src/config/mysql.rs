//! The address of a MySQL server: `mysql://[USER[:PASSWORD]@]HOST[:PORT][/DATABASE][?socket=PATH]`.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use reqwest::Url;

const DEFAULT_PORT: u16 = 3306;

#[derive(Debug, Default)]
pub struct MysqlAddress {
    /// `host:port`.
    pub peer: String,
    /// The server's Unix socket, where the address names it; `peer` is not connected to then.
    pub socket: Option<PathBuf>,
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
#[derive(Debug, PartialEq, Eq)]
pub enum WrongMysqlAddress {
    Form,
    Tls,
    UnknownOption(String),
    OptionValue(String),
}

impl MysqlAddress {
    pub fn parse(text: &str) -> Result<Self, WrongMysqlAddress> {
        let bare = format!("mysql://{text}");
        let text = if text.contains("://") { text } else { &bare };
        let url = Url::parse(text).map_err(|_| WrongMysqlAddress::Form)?;
        let host = url.host_str().filter(|host| !host.is_empty() && url.scheme() == "mysql");
        let host = host.ok_or(WrongMysqlAddress::Form)?;
        let mut address =
            Self { peer: format!("{host}:{}", url.port().unwrap_or(DEFAULT_PORT)), ..Self::default() };
        for (option, value) in url.query_pairs() {
            match (&*option, &*value) {
                ("socket", path) if path.starts_with('/') => address.socket = Some(path.into()),
                ("require_ssl", "true") => return Err(WrongMysqlAddress::Tls),
                ("require_ssl" | "prefer_socket", "true" | "false") => {}
                ("socket" | "require_ssl" | "prefer_socket", _) => {
                    return Err(WrongMysqlAddress::OptionValue(option.into_owned()));
                }
                _ => return Err(WrongMysqlAddress::UnknownOption(option.into_owned())),
            }
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
    fn options_name_a_socket_and_refuse_tls() {
        let socket = MysqlAddress::parse("mysql://u@localhost/?socket=/run/my%20sql.sock").unwrap().socket;
        assert_eq!(socket, Some(PathBuf::from("/run/my sql.sock")));
        let wrong = |text: &str| MysqlAddress::parse(text).unwrap_err();
        assert_eq!(wrong("mysql://u:s3cret@h/?require_ssl=true"), WrongMysqlAddress::Tls);
        assert_eq!(wrong("mysql://u@h/?color=red"), WrongMysqlAddress::UnknownOption("color".to_owned()));
        assert_eq!(wrong("mysql://u@h/?socket=rel"), WrongMysqlAddress::OptionValue("socket".to_owned()));
        for text in ["postgres://u@h", "mysql://", "mysql:///path"] {
            assert_eq!(wrong(text), WrongMysqlAddress::Form, "{text}");
        }
    }
}
