//! The daemon's notifications to the service manager that started it: `sd_notify(3)`.
//!
//! Messages go through a socket that is connected once, and never wait: a manager that does not read misses some. The
//! manager's variables are removed from the environment, so that no program that hostprobe starts speaks in its name.

use std::{
    ffi::OsString,
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

use rustix::process::{Pid, getppid};

use crate::clock::Timestamp;

/// The variables of `sd_notify(3)` and `sd_watchdog_enabled(3)`.
const VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// The socket of the service manager is unusable.
#[derive(Debug, thiserror::Error)]
#[error("NOTIFY_SOCKET={}: cannot connect to the service manager: {source}", socket.display())]
pub struct NotifyError {
    socket: OsString,
    source: io::Error,
}

/// The connection to the service manager; the default one sends nothing.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<UnixDatagram>,
    /// The interval of the watchdog's notifications. None without a watchdog.
    every: Option<Duration>,
    last: Option<Timestamp>,
    status: String,
    /// A service manager has started the daemon, and starts it again.
    has_manager: bool,
}

impl Notifier {
    /// Connects to the socket that the environment names, and removes the variables.
    ///
    /// # Safety
    /// No other thread may read or write the environment meanwhile ([`std::env::remove_var`]).
    pub unsafe fn take_from_environment() -> Result<Self, NotifyError> {
        let [socket, every, pid] = VARIABLES.map(std::env::var_os);
        for variable in VARIABLES {
            // SAFETY: the caller guarantees it.
            unsafe { std::env::remove_var(variable) };
        }
        let number = |text: OsString| text.to_str()?.parse::<u64>().ok();
        let for_us = pid.is_none_or(|pid| number(pid) == Some(u64::from(std::process::id())));
        let every = every.and_then(number).filter(|every| for_us && *every > 0).map(Duration::from_micros);
        let Some(socket) = socket else {
            // systemd sets this one for each service; the shells of a user inherit it.
            let by_systemd = std::env::var_os("INVOCATION_ID").is_some() && getppid() == Some(Pid::INIT);
            return Ok(Self { has_manager: by_systemd, ..Self::default() });
        };
        match connect(&socket) {
            Ok(to) => Ok(Self { socket: Some(to), every, has_manager: true, ..Self::default() }),
            Err(source) => Err(NotifyError { socket, source }),
        }
    }

    /// Whether a service manager has started the daemon: it starts the next one, too.
    pub(crate) fn is_of_a_manager(&self) -> bool {
        self.has_manager
    }

    /// The daemon is ready.
    pub(crate) fn ready(&self) {
        self.send("READY=1");
    }

    /// The daemon reads its configuration again; [`ready`](Self::ready) ends that.
    pub(crate) fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// The daemon stops, and may take so long: `TimeoutStopSec=` is no shorter then.
    pub(crate) fn stopping(&self, longest: Duration) {
        self.send(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}", longest.as_micros()));
    }

    /// A status line for people, sent if it has changed.
    pub(crate) fn status(&mut self, status: impl FnOnce() -> String) {
        if self.socket.is_none() {
            return;
        }
        let status = status();
        if status != self.status && self.send(&format!("STATUS={}", status.replace('\n', " "))) {
            self.status = status;
        }
    }

    /// The watchdog's sign of life, sent four times in its timeout. Only the daemon's loop may call it, once a round.
    pub(crate) fn notify_watchdog(&mut self, now: Timestamp) {
        let Some(every) = self.every else { return };
        if self.last.is_none_or(|last| now.since(last) >= every / 4) && self.send("WATCHDOG=1") {
            self.last = Some(now);
        }
    }

    /// Whether the message was sent.
    fn send(&self, message: &str) -> bool {
        let Some(socket) = &self.socket else { return false };
        let sent = socket.send(message.as_bytes());
        sent.inspect_err(
            |error| tracing::debug!(%error, message, "service manager: could not send the message"),
        )
        .is_ok()
    }
}

/// A path, or with an `@` an abstract name.
fn connect(name: &OsString) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    match name.as_bytes() {
        [b'@', name @ ..] => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        [b'/', ..] => socket.connect(name)?,
        _ => return Err(io::Error::new(io::ErrorKind::Unsupported, "neither a path nor an abstract name")),
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(every: Option<Duration>) -> (Notifier, UnixDatagram) {
        let (socket, manager) = UnixDatagram::pair().unwrap();
        socket.set_nonblocking(true).unwrap();
        manager.set_nonblocking(true).unwrap();
        (Notifier { socket: Some(socket), every, ..Notifier::default() }, manager)
    }

    fn received(manager: &UnixDatagram) -> Option<String> {
        let mut buffer = [0; 256];
        let length = manager.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    #[test]
    fn signs_of_life_are_as_frequent_as_wanted_and_no_more() {
        let at = |millis: u64| Timestamp::from_nanos(millis * 1_000_000);
        let (mut notifier, manager) = pair(Some(Duration::from_secs(4)));
        for (now, sent) in [(0, true), (999, false), (1000, true), (1500, false), (9000, true)] {
            notifier.notify_watchdog(at(now));
            assert_eq!(received(&manager).is_some_and(|it| it == "WATCHDOG=1"), sent, "{now}");
        }
        let (mut unasked, manager) = pair(None);
        unasked.notify_watchdog(at(0));
        assert_eq!(received(&manager), None);
    }

    #[test]
    fn a_status_is_one_line_and_sent_once() {
        let (mut notifier, manager) = pair(None);
        for _ in 0..2 {
            notifier.status(|| "a\nREADY=1".to_owned());
        }
        assert_eq!(received(&manager).as_deref(), Some("STATUS=a READY=1"));
        assert_eq!(received(&manager), None);
    }

    #[test]
    fn a_manager_that_does_not_read_is_not_waited_for() {
        let (notifier, _manager) = pair(None);
        let refused = (0..100_000).any(|_| !notifier.send("WATCHDOG=1"));
        assert!(refused);
    }

    #[test]
    fn both_kinds_of_names_lead_to_the_manager() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        connect(&path.into()).unwrap().send(b"READY=1").unwrap();
        assert_eq!(received(&by_path).as_deref(), Some("READY=1"));

        let name = format!("hostprobe-test-{}", std::process::id());
        let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        connect(&format!("@{name}").into()).unwrap().send(b"READY=1").unwrap();
        assert_eq!(received(&by_name).as_deref(), Some("READY=1"));
        assert_eq!(connect(&"vsock:2:1".into()).unwrap_err().kind(), io::ErrorKind::Unsupported);
    }
}
