//! Whether a receiver can be reached, without sending it anything: its name is resolved, and a connection opened and closed.

use std::{
    io,
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    time::{Duration, Instant},
};

use reqwest::Url;

use super::{client::client_with_tls, smtp::MailServer};
use crate::{
    bounded_thread,
    config::{AlertFormat, AlertReceiver},
};

/// For one receiver. A name that no server answers for takes the resolver longer.
const LIMIT: Duration = Duration::from_secs(4);

/// The most addresses of a name that are tried.
const ADDRESSES: usize = 4;

/// The variables that name a proxy, as the HTTP client reads them.
const PROXIES: [&str; 6] =
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// A receiver as far as it can be told without an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The configured name, or `place`.
    pub name: String,
    /// Such as `slack`.
    pub kind: &'static str,
    /// Scheme, host and port of its address. Anything else of that may be a secret.
    pub place: String,
    /// What a connection was opened to, or what is wrong.
    pub outcome: Result<SocketAddr, String>,
}

/// Tries a receiver.
pub async fn reach(receiver: &AlertReceiver) -> Reach {
    let kind = receiver.format.as_str();
    let (place, host, port) = match place(receiver) {
        Ok(found) => found,
        Err(why) => {
            let name = receiver.name.clone().unwrap_or_else(|| kind.to_owned());
            return Reach { name, kind, place: String::new(), outcome: Err(why) };
        }
    };
    let name = receiver.name.clone().unwrap_or_else(|| place.clone());
    let receiver = receiver.clone();
    let work = move || {
        usable_tls(&receiver)?;
        connect(&host, port)
    };
    let outcome = bounded_thread::answer("reach", LIMIT + LIMIT / 4, work).await;
    let outcome = outcome.unwrap_or_else(|error| Err(error.to_string()));
    let outcome = outcome.map_err(|why| with_proxy(why, kind, |name| std::env::var_os(name).is_some()));
    Reach { name, kind, place, outcome }
}

/// Scheme, host and port for people; host and port.
fn place(receiver: &AlertReceiver) -> Result<(String, String, u16), String> {
    if receiver.format == AlertFormat::Email {
        let server = MailServer::new(receiver, "").map_err(|error| error.to_string())?;
        let (host, port) = server.host_and_port();
        return Ok((server.name(), host.to_owned(), port));
    }
    let url = Url::parse(receiver.address.expose()).map_err(|error| error.to_string())?;
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = url.port_or_known_default().ok_or("its address has no port")?;
    Ok((url.origin().ascii_serialization(), host, port))
}

/// Whether the files of `tls` can be used. It blocks.
fn usable_tls(receiver: &AlertReceiver) -> Result<(), String> {
    let Some(tls) = &receiver.tls else { return Ok(()) };
    if receiver.format == AlertFormat::Email {
        let server = MailServer::new(receiver, "").map_err(|error| error.to_string())?;
        return server.parameters().map(drop);
    }
    let url = Url::parse(receiver.address.expose()).map_err(|error| error.to_string())?;
    client_with_tls(&url, LIMIT, tls).map(drop)
}

/// Opens a connection to the first address that takes one, and closes it. It blocks.
fn connect(host: &str, port: u16) -> Result<SocketAddr, String> {
    let until = Instant::now() + LIMIT;
    let found = (host, port).to_socket_addrs();
    let addresses: Vec<SocketAddr> =
        found.map_err(|error| format!("its name cannot be resolved: {error}"))?.take(ADDRESSES).collect();
    let mut failed = "its name has no address".to_owned();
    for address in addresses {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(&address, left) {
            Ok(_) => return Ok(address),
            Err(error) => failed = format!("{address} takes no connection: {}", words(&error)),
        }
    }
    Err(failed)
}

fn words(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::TimedOut {
        return format!("no answer within {} s", LIMIT.as_secs());
    }
    error.to_string()
}

/// A direct connection says little where requests go through a proxy.
fn with_proxy(why: String, kind: &str, is_set: impl Fn(&str) -> bool) -> String {
    match PROXIES.iter().find(|name| kind != "email" && is_set(name)) {
        Some(name) => format!("{why}; {name} names a proxy, which may reach it"),
        None => why,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::config::{MailOptions, Secret};

    fn receiver(format: AlertFormat, address: &str) -> AlertReceiver {
        AlertReceiver::new(format, Secret::new(address))
    }

    #[tokio::test]
    async fn what_is_sent_is_a_connection_alone_and_no_secret_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let secret = format!("http://user:pw-s3cret@{address}/hook/t0ken?key=x");
        let found = reach(&receiver(AlertFormat::Discord, &secret)).await;
        assert_eq!(found.outcome, Ok(address));
        assert_eq!((found.kind, found.place.as_str()), ("discord", format!("http://{address}").as_str()));
        assert_eq!(found.name, found.place);
        let (mut stream, _) = listener.accept().unwrap();
        let mut sent = Vec::new();
        io::Read::read_to_end(&mut stream, &mut sent).unwrap();
        assert_eq!(sent, b"");
    }

    #[tokio::test]
    async fn a_closed_port_and_a_file_that_is_no_certificate_are_named() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let found = reach(&receiver(AlertFormat::Json, &format!("http://{closed}/"))).await;
        let why = found.outcome.unwrap_err();
        assert!(why.contains(&format!("{closed} takes no connection: ")), "{why}");
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut with_tls = receiver(AlertFormat::Json, "https://127.0.0.1:1/");
        let tls = crate::config::TlsOptions { ca_file: Some(file.path().to_owned()), ..Default::default() };
        with_tls.tls = Some(tls.clone());
        let why = reach(&with_tls).await.outcome.unwrap_err();
        assert!(why.contains(&file.path().display().to_string()), "{why}");
        let missing = crate::config::TlsOptions { ca_file: Some("/no/such".into()), ..tls };
        let mail = MailOptions { from: "a@b.example".to_owned(), to: Vec::new(), starttls: true };
        let mail = AlertReceiver {
            mail: Some(mail),
            tls: Some(missing),
            ..receiver(AlertFormat::Email, "smtp://127.0.0.1")
        };
        let found = reach(&mail).await;
        assert_eq!(found.place, "smtp://127.0.0.1:587");
        assert!(found.outcome.unwrap_err().contains("/no/such"));
    }

    #[test]
    fn a_proxy_is_named_beside_a_failed_connection() {
        let is_set = |name: &str| name == "https_proxy";
        let why = with_proxy("no".to_owned(), "slack", is_set);
        assert_eq!(why, "no; https_proxy names a proxy, which may reach it");
        assert_eq!(with_proxy("no".to_owned(), "email", is_set), "no");
        assert_eq!(with_proxy("no".to_owned(), "slack", |_| false), "no");
    }
}
