//! Addresses of probes and webhooks: variables, scheme, password file, and what each protocol asks for.

use std::error::Error;

use reqwest::Url;
use toml::Spanned;

use super::Outside;
use crate::config::{
    Secret,
    error::Findings,
    file::At,
    read,
    template::{self, Template},
    unsupported::Unsupported,
    values::Text,
};

/// What an address must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Tcp,
    Redis,
    Postgres,
    Mysql,
}

impl Scheme {
    fn prefixes(self) -> &'static [&'static str] {
        match self {
            Self::Http => &["http://", "https://"],
            Self::Tcp => &[""],
            Self::Redis => &["redis://", "rediss://"],
            Self::Postgres => &["postgres://", "postgresql://"],
            Self::Mysql => &["mysql://"],
        }
    }

    fn expected(self) -> &'static str {
        match self {
            Self::Http => "an address such as \"http://127.0.0.1:8080/health\"",
            Self::Tcp => "a host and a port such as \"127.0.0.1:8080\"",
            Self::Redis => "an address such as \"redis://127.0.0.1:6379\"",
            Self::Postgres => "an address such as \"postgres://user@127.0.0.1/database\"",
            Self::Mysql => "an address such as \"mysql://127.0.0.1:3306\"",
        }
    }
}

/// The address with its secrets put in, if it is right.
pub(super) fn address(
    written: &Spanned<Text<Template>>,
    password_file: &At<String>,
    scheme: Scheme,
    outside: &Outside<'_>,
    found: &mut Findings,
) -> Option<Secret> {
    let Text(template) = written.get_ref();
    if template.holds_password() && outside.readable_by_others {
        let warning = "a password stands in this file, which others may read: take their right away (chmod \
                       600), or use `password_file` or ${NAME}";
        found.warn(written.span(), warning);
    }
    let filled = template.fill(outside.variable).map_err(|name| {
        format!("the environment variable {name} is not set or empty; expected it to be set for the daemon")
    });
    let checked = filled.and_then(|address| {
        let known = scheme.prefixes().iter().any(|prefix| address.expose().starts_with(prefix));
        if known { Ok(address) } else { Err(format!("a wrong address; expected {}", scheme.expected())) }
    });
    let address = match checked {
        Ok(address) => address,
        Err(message) => {
            found.error(written.span(), message);
            return None;
        }
    };
    let address = match password_file {
        Some(file) => insert_password(&address, file, scheme, found)?,
        None => address,
    };
    let verdict = match scheme {
        Scheme::Tcp => host_and_port(address.expose()),
        Scheme::Http => url(address.expose()),
        Scheme::Mysql => mysql(address.expose()),
        Scheme::Redis => redis(address.expose()),
        Scheme::Postgres => postgres(address.expose()),
    };
    match verdict {
        Ok(()) => {
            let nobody = |url: Url| url.password().is_some() && url.username().is_empty();
            if scheme == Scheme::Mysql && Url::parse(address.expose()).is_ok_and(nobody) {
                let warning =
                    "a mysql probe without a user reads the server's greeting and needs no password";
                found.warn(written.span(), warning);
            }
            return Some(address);
        }
        Err(Wrong::Unsupported(what)) => found.unsupported(written.span(), what),
        Err(Wrong::Because(why)) => {
            found.error(written.span(), format!("{why}; expected {}", scheme.expected()));
        }
    }
    None
}

enum Wrong {
    Unsupported(Unsupported),
    /// Must not repeat any part of the address, which may hold a password.
    Because(String),
}

fn insert_password(
    address: &Secret,
    file: &Spanned<String>,
    scheme: Scheme,
    found: &mut Findings,
) -> Option<Secret> {
    let path = super::absolute(file, "the absolute path of a file that holds the password alone", found)?;
    let content = match read::password(&path) {
        Ok(content) => content,
        Err(message) => {
            found.error(file.span(), message);
            return None;
        }
    };
    if content.readable_by_others {
        let warning = format!("the password file {} may be read by others (chmod 600)", path.display());
        found.warn(file.span(), warning);
    }
    let taken = scheme != Scheme::Tcp
        && Url::parse(address.expose()).is_ok_and(|url| url.password().is_none_or(str::is_empty));
    let with_password = if taken { template::with_password(address, &content.text) } else { None };
    if with_password.is_none() {
        let message = "the address beside it has a password already, or no place for one; expected \
                       `password_file` beside a URL with a host and without a password";
        found.error(file.span(), message);
    }
    with_password
}

fn url(text: &str) -> Result<(), Wrong> {
    match Url::parse(text) {
        Ok(url) if url.has_host() && url.host_str().is_some_and(|host| !host.is_empty()) => Ok(()),
        Ok(_) => Err(Wrong::Because("an address without a host".to_owned())),
        Err(error) => Err(Wrong::Because(format!(
            "a wrong address: {error} (special characters of a password are written as %XX)"
        ))),
    }
}

fn host_and_port(text: &str) -> Result<(), Wrong> {
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host_is_right = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        }
    };
    let port_is_right =
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|p| p > 0);
    if host_is_right && port_is_right { Ok(()) } else { Err(Wrong::Because("a wrong address".to_owned())) }
}

fn redis(text: &str) -> Result<(), Wrong> {
    if text.starts_with("rediss://") {
        return Err(Wrong::Unsupported(Unsupported::RedisTls));
    }
    url(text)?;
    match redis::IntoConnectionInfo::into_connection_info(text) {
        Ok(_) => Ok(()),
        Err(_) => Err(Wrong::Because(
            "a wrong Redis address: only a database number may follow the host".to_owned(),
        )),
    }
}

fn mysql(text: &str) -> Result<(), Wrong> {
    url(text)?;
    match mysql_async::Opts::from_url(text) {
        Ok(opts) if opts.ssl_opts().is_some() => Err(Wrong::Unsupported(Unsupported::MysqlTls)),
        Ok(_) => Ok(()),
        Err(mysql_async::UrlError::UnknownParameter { param }) => {
            Err(Wrong::Because(format!("a wrong MySQL address: unknown option `{param}`")))
        }
        Err(mysql_async::UrlError::InvalidParamValue { param, .. }) => {
            Err(Wrong::Because(format!("a wrong MySQL address: invalid value for option `{param}`")))
        }
        Err(_) => Err(Wrong::Because("a wrong MySQL address".to_owned())),
    }
}

fn postgres(text: &str) -> Result<(), Wrong> {
    if text.contains("sslmode=verify") {
        return Err(Wrong::Unsupported(Unsupported::PostgresTls));
    }
    match text.parse::<tokio_postgres::Config>() {
        Ok(config) if config.get_ssl_mode() == tokio_postgres::config::SslMode::Require => {
            Err(Wrong::Unsupported(Unsupported::PostgresTls))
        }
        Ok(config) if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() => {
            Err(Wrong::Because("an address without a host".to_owned()))
        }
        Ok(_) => Ok(()),
        Err(error) => {
            // Its cause names an option, never its value.
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            Err(Wrong::Because(format!("a wrong PostgreSQL address{cause}")))
        }
    }
}
