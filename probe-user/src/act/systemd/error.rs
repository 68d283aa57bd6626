//! What can go wrong between the daemon and systemd.

use std::time::Duration;

use zbus::fdo;

/// A question to systemd, or an order, that failed.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    /// There is no bus at the address.
    #[error(
        "no D-Bus at {address}: {source}; systemd is reached over the system bus: start dbus.service, or \
         set DBUS_SYSTEM_BUS_ADDRESS to where its socket is"
    )]
    Connect {
        /// The address tried.
        address: String,
        /// Why.
        source: zbus::Error,
    },
    /// There is a bus, without systemd on it.
    #[error(
        "systemd is not on the bus at {address}: it is not this host's service manager, or has not \
         finished booting; services with `unit` need it"
    )]
    NoManager {
        /// The bus's address.
        address: String,
    },
    /// systemd runs where this process cannot see processes.
    #[error(
        "the systemd behind {address} runs in a pid namespace that cannot be seen from here; run hostprobe \
         in the host's pid namespace (for a container: --pid=host)"
    )]
    Hidden {
        /// The bus's address.
        address: String,
    },
    /// systemd did not answer in time.
    #[error("{call} got no answer from systemd for {after:?}; is it hung? (`systemctl status` tells)")]
    Timeout {
        /// The call.
        call: String,
        /// How long was waited.
        after: Duration,
    },
    /// There is no such unit, or it cannot be used.
    #[error(
        "{call}: {message} (a unit's full name is needed, such as api.service; `systemctl status` says more)"
    )]
    NoSuchUnit {
        /// The call.
        call: String,
        /// systemd's own words.
        message: String,
    },
    /// systemd does not take this order from us.
    #[error("{call} is not permitted: {message}; run hostprobe as root, or allow it by a polkit rule")]
    Denied {
        /// The call.
        call: String,
        /// The bus's or systemd's own words.
        message: String,
    },
    /// Any other failure of a call.
    #[error("{call} failed: {source}")]
    Call {
        /// The call.
        call: String,
        /// Why.
        source: zbus::Error,
    },
    /// An answer without something it must have.
    #[error("systemd's answer on {unit} has no usable {property}; is it older than version 232?")]
    Answer {
        /// The unit asked about.
        unit: String,
        /// The property.
        property: &'static str,
    },
}

impl SystemdError {
    /// Whether the connection, or systemd at its end, is what failed, so that nothing else would work.
    pub fn is_lost(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::NoManager { .. } | Self::Hidden { .. } | Self::Timeout { .. } => {
                true
            }
            Self::Call { source: zbus::Error::InputOutput(_), .. } => true,
            Self::Call { source: zbus::Error::FDO(error), .. } => matches!(
                **error,
                fdo::Error::ServiceUnknown(_)
                    | fdo::Error::NameHasNoOwner(_)
                    | fdo::Error::NoReply(_)
                    | fdo::Error::Disconnected(_)
            ),
            Self::Call { .. } => false,
            Self::NoSuchUnit { .. } | Self::Denied { .. } | Self::Answer { .. } => false,
        }
    }

    /// Sorts a failed call by what can be done about it.
    pub(super) fn of_call(call: String, error: zbus::Error) -> Self {
        if let zbus::Error::MethodError(name, message, _) = &error {
            let message = message.clone().unwrap_or_else(|| name.to_string());
            match name.as_str() {
                "org.freedesktop.systemd1.NoSuchUnit"
                | "org.freedesktop.systemd1.LoadFailed"
                | "org.freedesktop.systemd1.UnitMasked"
                | "org.freedesktop.systemd1.BadUnitSetting" => return Self::NoSuchUnit { call, message },
                _ => {}
            }
        }
        if let zbus::Error::FDO(inner) = &error {
            if let fdo::Error::AccessDenied(message) | fdo::Error::InteractiveAuthorizationRequired(message) =
                inner.as_ref()
            {
                return Self::Denied { message: message.clone(), call };
            }
            // Of all our arguments only the unit's name comes from a user.
            if let fdo::Error::InvalidArgs(message) = inner.as_ref() {
                return Self::NoSuchUnit { message: message.clone(), call };
            }
        }
        Self::Call { call, source: error }
    }
}
