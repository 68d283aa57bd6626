//! What an operator asks for over the control socket, and the orders that stay in force.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{DrillFault, IncidentId, ServiceId};
use crate::clock::Timestamp;

/// A user of this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub id: u32,
    /// None if the host does not know the id.
    pub name: Option<String>,
}

/// Who gave a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operator {
    pub user: User,
    /// The user who logged in, if the kernel knows: with `sudo`, another one than `user`.
    pub login: Option<User>,
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => f.write_str(name),
            None => write!(f, "uid {}", self.id),
        }
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.login {
            Some(login) if login.id != self.user.id => write!(f, "{login} (as {})", self.user),
            Some(_) | None => write!(f, "{}", self.user),
        }
    }
}

/// The commands, by their words on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandKind {
    Stop,
    Start,
    Restart,
    Pause,
    Resume,
    Ack,
    Reload,
    Drill,
}

impl CommandKind {
    /// The word used for it in events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Start => "start",
            Self::Restart => "restart",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Ack => "ack",
            Self::Reload => "reload",
            Self::Drill => "drill",
        }
    }

    /// What the operator has done with it.
    const fn done(self) -> &'static str {
        match self {
            Self::Stop => "stopped",
            Self::Start => "started",
            Self::Restart => "restarted",
            Self::Pause => "paused",
            Self::Resume => "resumed",
            Self::Ack => "acknowledged",
            Self::Reload => "reloaded",
            Self::Drill => "drilled",
        }
    }
}

/// A command with its author, reason and time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    pub kind: CommandKind,
    pub by: Operator,
    pub reason: Option<String>,
    pub since: Timestamp,
    /// None: until another command ends it.
    pub until: Option<Timestamp>,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {}", self.kind.done(), self.by)?;
        self.reason.iter().try_for_each(|reason| write!(f, ": {reason}"))
    }
}

/// The orders about one service that are in force. They outlive the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orders {
    /// It stays stopped.
    pub stop: Option<Order>,
    /// Its restarts and alerts are held.
    pub pause: Option<Order>,
}

/// An operator's part in the life of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperatorCommand {
    Stop(Order),
    /// The stop failed with this error.
    StopFailed(String),
    Start(Order),
    Restart(Order),
    Pause(Order),
    Resume(Order),
    Ack(IncidentId, Order),
    /// A drill begins: the daemon is about to cause this fault.
    Drill(DrillFault, Order),
    /// The drill is over, and its fault is undone if it was one to undo.
    DrillOver,
    /// A window of its configuration opens, or the last open one closes.
    Maintenance(Option<String>),
    /// The orders that an earlier run of the daemon was given.
    Remembered(Orders),
}

/// A command that was carried out or refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorReport {
    /// None: all services.
    pub service: Option<ServiceId>,
    /// The incident that it is about.
    pub incident: Option<IncidentId>,
    pub order: Order,
    /// The fault of a drill.
    pub fault: Option<DrillFault>,
    /// Why it was refused or failed, if it was.
    pub error: Option<String>,
}

impl OperatorReport {
    /// The order in words, with the fault of a drill.
    pub fn words(&self) -> String {
        let fault = self.fault.map_or_else(String::new, |fault| format!(" ({})", fault.as_str()));
        format!("{}{fault}", self.order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: u32, name: &str) -> User {
        User { id, name: (!name.is_empty()).then(|| name.to_owned()) }
    }

    #[test]
    fn an_order_names_the_user_who_logged_in_and_the_reason() {
        let order = |login, reason: Option<&str>| Order {
            kind: CommandKind::Pause,
            by: Operator { user: user(0, "root"), login },
            reason: reason.map(str::to_owned),
            since: Timestamp::default(),
            until: None,
        };
        assert_eq!(order(None, None).to_string(), "paused by root");
        assert_eq!(order(Some(user(0, "root")), Some("disk swap")).to_string(), "paused by root: disk swap");
        assert_eq!(order(Some(user(1000, "alice")), None).to_string(), "paused by alice (as root)");
        assert_eq!(order(Some(user(1000, "")), None).to_string(), "paused by uid 1000 (as root)");
    }
}
