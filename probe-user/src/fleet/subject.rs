//! The subjects of the fleet. Each ends with the name of the host that may publish it, so that the permissions of a NATS
//! user can tie it to its host.

use std::net::IpAddr;

/// The longest name of a host or a service, in bytes.
pub const HOST_NAME_MAX: usize = 64;

/// The bucket of what holds now.
pub(super) const BUCKET: &str = "hostprobe";

/// The stream of all events.
pub(super) const EVENTS_STREAM: &str = "HOSTPROBE_EVENTS";

/// The subjects of that stream.
pub(super) const EVENTS: &str = "hostprobe.events.*";

/// What a key of the bucket is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// That a host lives.
    Alive(String),
    /// The services of a host.
    State(String),
    /// That an address is a host's own.
    Address(IpAddr, String),
    /// What is held on a host because of services of another one, which comes first.
    Held(String, String),
}

impl Key {
    /// It in the bucket.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Alive(host) => format!("alive.{host}"),
            Self::State(host) => format!("state.{host}"),
            Self::Address(address, host) => format!("address.{}.{host}", address_token(*address)),
            Self::Held(cause, host) => format!("held.{cause}.{host}"),
        }
    }

    /// The subject that its values are published to.
    pub(super) fn subject(&self) -> String {
        format!("$KV.{BUCKET}.{}", self.text())
    }

    /// The host that it is of.
    pub(super) fn host(&self) -> &str {
        match self {
            Self::Alive(host) | Self::State(host) | Self::Address(_, host) | Self::Held(_, host) => host,
        }
    }

    /// The key of a subject; None for any other one.
    pub(super) fn read(subject: &str) -> Option<Self> {
        let key = subject.strip_prefix("$KV.")?.strip_prefix(BUCKET)?.strip_prefix('.')?;
        let parts: Vec<&str> = key.split('.').collect();
        let host = parts.last().filter(|host| is_host(host)).map(|host| (*host).to_owned())?;
        match parts.as_slice() {
            ["alive", _] => Some(Self::Alive(host)),
            ["state", _] => Some(Self::State(host)),
            ["address", address, _] => Some(Self::Address(address_of(address)?, host)),
            ["held", cause, _] if is_host(cause) => Some(Self::Held((*cause).to_owned(), host)),
            _ => None,
        }
    }
}

/// All claims of an address.
pub(super) fn claims_of(address: IpAddr) -> String {
    format!("$KV.{BUCKET}.address.{}.*", address_token(address))
}

pub(super) fn all_alive() -> String {
    format!("$KV.{BUCKET}.alive.*")
}

pub(super) fn all_states() -> String {
    format!("$KV.{BUCKET}.state.*")
}

/// What is held elsewhere because of this host's services.
pub(super) fn held_by(host: &str) -> String {
    format!("$KV.{BUCKET}.held.{host}.*")
}

pub(super) fn events_of(host: &str) -> String {
    format!("hostprobe.events.{host}")
}

/// Dots and colons have a meaning in subjects and keys.
fn address_token(address: IpAddr) -> String {
    address.to_canonical().to_string().replace(['.', ':'], "-")
}

fn address_of(token: &str) -> Option<IpAddr> {
    let v4 = token.replace('-', ".").parse().map(IpAddr::V4);
    v4.or_else(|_| token.replace('-', ":").parse().map(IpAddr::V6)).ok()
}

/// Whether a text can be the name of a host in subjects.
pub(super) fn is_host(text: &str) -> bool {
    (1..=HOST_NAME_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

/// A host's name as it stands in subjects: a dot separates tokens there.
pub fn host_token(name: &str) -> String {
    let replaced = |char: char| if char.is_ascii_alphanumeric() || char == '-' { char } else { '_' };
    let token: String = name.chars().map(replaced).take(HOST_NAME_MAX).collect();
    if token.is_empty() { "_".to_owned() } else { token }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_written() {
        for key in [
            Key::Alive("db-1".to_owned()),
            Key::State("db-1".to_owned()),
            Key::Address([10, 9, 0, 1].into(), "db-1".to_owned()),
            Key::Address("fd00::1".parse().unwrap(), "db-1".to_owned()),
            Key::Held("db-1".to_owned(), "web_2".to_owned()),
        ] {
            assert_eq!(Key::read(&key.subject()), Some(key));
        }
    }

    #[test]
    fn other_subjects_are_no_keys() {
        for subject in [
            "",
            "$KV.other.alive.a",
            "$KV.hostprobe.alive",
            "$KV.hostprobe.alive.a b",
            "$KV.hostprobe.alive.é",
        ] {
            assert_eq!(Key::read(subject), None, "{subject}");
        }
        let long = format!("$KV.hostprobe.alive.{}", "x".repeat(65));
        assert_eq!(Key::read(&long), None);
        assert_eq!(Key::read("$KV.hostprobe.address.1-2-3.a"), None);
    }

    #[test]
    fn the_name_of_a_host_becomes_one_token() {
        assert_eq!(host_token("db-1.eu.example"), "db-1_eu_example");
        assert_eq!(host_token("a b*>"), "a_b__");
        assert_eq!(host_token(""), "_");
    }
}
