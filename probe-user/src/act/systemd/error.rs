//! Errors between the daemon and systemd.

use std::time::Duration;

use zbus::fdo;

#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    #[error(
        "{address}: cannot connect to D-Bus: {source}; start dbus.service, or set DBUS_SYSTEM_BUS_ADDRESS to the \
         address of the system bus"
    )]
    Connect { address: String, source: zbus::Error },
    #[error(
        "{address}: systemd is not on this bus: it is not this host's service manager, or has not \
         finished booting; services with `unit` need it"
    )]
    NoManager { address: String },
    /// systemd runs in a pid namespace that the daemon cannot see.
    #[error(
        "{address}: the systemd on this bus runs in a pid namespace that cannot be seen from here; run hostprobe \
         in the host's pid namespace (for a container: --pid=host)"
    )]
    Hidden { address: String },
    #[error("{call} got no answer from systemd for {after:?}; is it hung? (`systemctl status` tells)")]
    Timeout { call: String, after: Duration },
    #[error(
        "{call}: {message} (a unit's full name is needed, such as api.service; `systemctl status` says more)"
    )]
    NoSuchUnit { call: String, message: String },
    /// The daemon lacks the right to this call.
    #[error("{call} is not permitted: {message}; run hostprobe as root, or allow it by a polkit rule")]
    Denied {
        call: String,
        /// The bus's or
        message: String,
    },
    #[error("{call} failed: {source}")]
    Call { call: String, source: zbus::Error },
    #[error("systemd's answer on {unit} has no usable {property}; is it older than version 232?")]
    Answer { unit: String, property: &'static str },
}

impl SystemdError {
    /// Whether the connection or systemd itself failed, so that any other call would fail too.
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

    /// Sorts a failed call by its remedy.
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
            // Only the unit's name comes from the configuration.
            if let fdo::Error::InvalidArgs(message) = inner.as_ref() {
                return Self::NoSuchUnit { message: message.clone(), call };
            }
        }
        Self::Call { call, source: error }
    }
}
