//! Translates an error into the failure of a service, in a sentence for people.

use std::{error::Error, io};

use super::tls;
use crate::{bounded_thread::NoAnswer, descriptors, fact::ProbeFailure};

/// The failure of a run that did not get what it wanted from a thread of its own. Neither says anything of the service.
pub(super) const fn kind_without(answer: &NoAnswer) -> ProbeFailure {
    match answer {
        NoAnswer::Thread(_) => ProbeFailure::Local,
        NoAnswer::Late(_) | NoAnswer::Ended => ProbeFailure::CannotAsk,
    }
}

/// Why a run failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub kind: ProbeFailure,
    pub text: String,
}

impl Failure {
    pub fn new(kind: ProbeFailure, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    /// A connection to `peer` that could not be made.
    pub fn connect(error: &io::Error, peer: &str) -> Self {
        let Self { kind, text } = Self::io(error, peer);
        Self { kind: if kind == ProbeFailure::Timeout { ProbeFailure::ConnectTimeout } else { kind }, text }
    }

    /// A failed system call on a connection to `peer`.
    pub fn io(error: &io::Error, peer: &str) -> Self {
        let kind = kind_of(error);
        let text = match kind {
            ProbeFailure::Refused => format!("connection refused by {peer}: nothing listens there"),
            ProbeFailure::Reset if error.kind() == io::ErrorKind::UnexpectedEof => {
                format!("{peer} closed the connection before its answer was whole")
            }
            ProbeFailure::Reset => format!("{peer} reset the connection before its answer was whole"),
            ProbeFailure::Timeout | ProbeFailure::ConnectTimeout => format!("{peer} did not answer: {error}"),
            ProbeFailure::Unreachable => format!("{peer} cannot be reached: {error}"),
            ProbeFailure::Local | ProbeFailure::CannotAsk => {
                format!("cannot probe {peer} from this host: {error}")
            }
            ProbeFailure::Auth => format!("{peer} does not let the probe in: {error}"),
            ProbeFailure::Tls => {
                let why = tls_in(error).map_or_else(|| error.to_string(), tls::words);
                format!("no TLS session with {peer}: {why}")
            }
            ProbeFailure::Dns
            | ProbeFailure::Status
            | ProbeFailure::Body
            | ProbeFailure::Protocol
            | ProbeFailure::Rejected
            | ProbeFailure::Busy
            | ProbeFailure::Upstream
            | ProbeFailure::TooManyConnections
            | ProbeFailure::AccountLimit
            | ProbeFailure::Connections
            | ProbeFailure::Memory
            | ProbeFailure::MemoryFull
            | ProbeFailure::Storage
            | ProbeFailure::Replication
            | ProbeFailure::Persistence
            | ProbeFailure::Cluster
            | ProbeFailure::Role
            | ProbeFailure::Lag
            | ProbeFailure::Transaction
            | ProbeFailure::Wait
            | ProbeFailure::Wraparound
            | ProbeFailure::PluginWarning
            | ProbeFailure::PluginCritical
            | ProbeFailure::PluginUnknown
            | ProbeFailure::PluginTimeout
            | ProbeFailure::Answer
            | ProbeFailure::NoEcho
            | ProbeFailure::Silent => format!("{peer} answered wrongly: {error}"),
        };
        Self { kind, text }
    }

    /// The error at the root of a chain of errors, seen on a connection to `peer`.
    ///
    /// Client libraries wrap what happened several times over; the innermost error that is known decides.
    pub fn chain(error: &(dyn Error + 'static), peer: &str) -> Self {
        let mut found = None;
        let mut last = error.to_string();
        let mut next = Some(error);
        while let Some(error) = next {
            last = error.to_string();
            if let Some(refused) = error.downcast_ref::<io::Error>().and_then(tls_in) {
                let why = tls::words(refused);
                found = Some(Self::new(ProbeFailure::Tls, format!("no TLS session with {peer}: {why}")));
            } else if let Some(io) = error.downcast_ref::<io::Error>() {
                found = Some(Self::io(io, peer));
            } else if let Some(refused) = error.downcast_ref::<rustls::Error>() {
                let why = tls::words(refused);
                found = Some(Self::new(ProbeFailure::Tls, format!("no TLS session with {peer}: {why}")));
            } else if let Some(hyper) = error.downcast_ref::<hyper::Error>() {
                found = Self::hyper(hyper, peer).or(found);
            } else if last == "dns error" {
                // The connector's error type is private; this is how it prints. Its source is the resolver's.
                let cause = error.source().map_or_else(String::new, |source| format!(": {source}"));
                if let Some(shortage) = Self::shortage(error, peer) {
                    return shortage;
                }
                return Self::new(ProbeFailure::Dns, format!("the name in {peer} does not resolve{cause}"));
            }
            next = error.source();
        }
        found.unwrap_or_else(|| Self::new(ProbeFailure::Protocol, format!("no answer from {peer}: {last}")))
    }

    /// The resolver had no descriptors, memory or threads to ask with.
    fn shortage(error: &(dyn Error + 'static), peer: &str) -> Option<Self> {
        let mut next = error.source();
        while let Some(error) = next {
            if let Some(io) = error.downcast_ref::<io::Error>().filter(|it| descriptors::is_shortage(it)) {
                return Some(Self::new(
                    ProbeFailure::Local,
                    format!("cannot resolve the name in {peer} on this host: {io}"),
                ));
            }
            next = error.source();
        }
        None
    }

    fn hyper(error: &hyper::Error, peer: &str) -> Option<Self> {
        if error.is_incomplete_message() {
            return Some(Self::io(&io::ErrorKind::UnexpectedEof.into(), peer));
        }
        error
            .is_parse()
            .then(|| Self::new(ProbeFailure::Protocol, format!("{peer} does not speak HTTP: {error}")))
    }
}

/// The TLS error that was made an I/O error. It is no `source` of it: it must be asked for.
fn tls_in(error: &io::Error) -> Option<&rustls::Error> {
    let inner = error.get_ref()?;
    inner.downcast_ref::<rustls::Error>().or_else(|| tls_in(inner.downcast_ref::<io::Error>()?))
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "std has dozens of kinds and adds more; the rest says nothing of the service"
)]
fn kind_of(error: &io::Error) -> ProbeFailure {
    if tls_in(error).is_some() {
        return ProbeFailure::Tls;
    }
    if let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref::<io::Error>()) {
        return kind_of(inner);
    }
    match error.kind() {
        // A missing Unix socket has no listener.
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => ProbeFailure::Refused,
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::NotConnected
        | io::ErrorKind::UnexpectedEof => ProbeFailure::Reset,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown => {
            ProbeFailure::Unreachable
        }
        io::ErrorKind::TimedOut => ProbeFailure::Timeout,
        // A Unix socket with a full accept queue refuses at once instead of making the client wait.
        io::ErrorKind::WouldBlock => ProbeFailure::ConnectTimeout,
        io::ErrorKind::InvalidData => ProbeFailure::Protocol,
        // Client libraries say so of an answer that they cannot read; the kernel says so of our own request.
        io::ErrorKind::InvalidInput if error.raw_os_error().is_none() => ProbeFailure::Protocol,
        // The mode of a Unix socket, or a filter of this host.
        io::ErrorKind::PermissionDenied => ProbeFailure::Auth,
        // No local port is free; `tcp` knows where the host has no address instead.
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse | io::ErrorKind::OutOfMemory => {
            ProbeFailure::Local
        }
        _ if descriptors::is_shortage(error) => ProbeFailure::Local,
        _ if error.raw_os_error() == Some(libc::EHOSTDOWN) => ProbeFailure::Unreachable,
        _ => ProbeFailure::CannotAsk,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_errno_decides_between_a_fault_of_the_service_and_of_the_host() {
        let kind = |errno| kind_of(&io::Error::from_raw_os_error(errno));
        assert_eq!(kind(111), ProbeFailure::Refused);
        assert_eq!(kind(104), ProbeFailure::Reset);
        assert_eq!(kind(32), ProbeFailure::Reset);
        assert_eq!(kind(110), ProbeFailure::Timeout);
        assert_eq!(kind(101), ProbeFailure::Unreachable);
        assert_eq!(kind(113), ProbeFailure::Unreachable);
        assert_eq!(kind(13), ProbeFailure::Auth, "EACCES: the socket is not for this user");
        for (errno, name) in [(24, "EMFILE"), (23, "ENFILE"), (12, "ENOMEM"), (105, "ENOBUFS")] {
            assert_eq!(kind(errno), ProbeFailure::Local, "{name} is ours");
        }
        for (errno, name) in [(97, "EAFNOSUPPORT"), (22, "EINVAL"), (92, "ENOPROTOOPT"), (5, "EIO")] {
            assert_eq!(kind(errno), ProbeFailure::CannotAsk, "{name} is no lack of ours");
        }
        assert_eq!(kind(112), ProbeFailure::Unreachable, "EHOSTDOWN");
        assert_eq!(kind(99), ProbeFailure::Local, "EADDRNOTAVAIL: no local port is free");
    }

    #[test]
    fn a_certificate_refused_inside_an_io_error_is_tls() {
        let tls = rustls::Error::InvalidCertificate(rustls::CertificateError::Expired);
        let failure = Failure::chain(&io::Error::other(tls), "https://db");
        assert_eq!(failure.kind, ProbeFailure::Tls);
        assert!(failure.text.contains("https://db"), "{}", failure.text);
    }
}
