//! Where events go.

use std::{fmt, path::PathBuf, str::FromStr};

use schemars::Schema;

use super::values::{Written, pattern};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventOutput {
    Stdout,
    /// A file, rotated by size.
    File(PathBuf),
    /// A Unix socket that another process listens on, of streams or of datagrams.
    Unix(PathBuf),
    Tcp {
        host: String,
        port: u16,
    },
    /// systemd's journal, with the fields of an event as fields of its entry.
    Journald,
}

impl Written for EventOutput {
    const EXPECTED: &'static str =
        r#""-", the absolute path of a file, "unix:/path", "tcp:host:port" or "journald""#;

    fn read(text: &str) -> Option<Self> {
        let absolute = |path: &str| path.starts_with('/').then(|| PathBuf::from(path));
        if let Some(path) = text.strip_prefix("unix:") {
            return absolute(path).map(Self::Unix);
        }
        if let Some(address) = text.strip_prefix("tcp:") {
            let (host, port) = address.rsplit_once(':')?;
            let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
            let is_bracketed = bare.len() < host.len();
            let port = port.parse().ok().filter(|port| *port > 0)?;
            let is_host =
                !bare.is_empty() && (is_bracketed || !bare.contains(':')) && !bare.contains(['/', ' ']);
            return is_host.then(|| Self::Tcp { host: bare.to_owned(), port });
        }
        match text {
            "-" => Some(Self::Stdout),
            "journald" => Some(Self::Journald),
            _ => absolute(text).map(Self::File),
        }
    }

    fn schema() -> Schema {
        pattern(r"-|journald|(?:unix:)?/.*|tcp:.+:[0-9]+")
    }
}

impl FromStr for EventOutput {
    /// What is expected.
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::read(text).ok_or(Self::EXPECTED)
    }
}

/// As it is written in the configuration, but for `-`.
impl fmt::Display for EventOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("stdout"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp:[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp:{host}:{port}"),
            Self::Journald => f.write_str("journald"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_is_read_by_its_form() {
        let tcp = |host: &str, port| EventOutput::Tcp { host: host.to_owned(), port };
        for (text, expected) in [
            ("-", EventOutput::Stdout),
            ("/var/log/e", EventOutput::File("/var/log/e".into())),
            ("unix:/run/e.sock", EventOutput::Unix("/run/e.sock".into())),
            ("tcp:logs.example:5170", tcp("logs.example", 5170)),
            ("tcp:[::1]:5170", tcp("::1", 5170)),
            ("journald", EventOutput::Journald),
        ] {
            assert_eq!(EventOutput::read(text).as_ref(), Some(&expected), "{text}");
        }
        for text in [
            "",
            "e",
            "unix:e",
            "unix:",
            "tcp:",
            "tcp:a",
            "tcp:a:0",
            "tcp::1",
            "tcp:::1:5",
            "tcp:a:99999",
            "udp:a:1",
        ] {
            assert_eq!(EventOutput::read(text), None, "{text}");
        }
    }
}
