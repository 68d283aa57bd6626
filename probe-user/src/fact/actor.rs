//! Who asked for something: a program, the person behind it, and what started it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// The most ancestors that are kept, and the most that a sentence names.
pub const ANCESTORS_MAX: usize = 8;
const ANCESTORS_NAMED: usize = 4;

/// The longest command line that a sentence has, and the longest of an ancestor, in characters.
const COMMAND_MAX: usize = 160;
const ANCESTOR_MAX: usize = 60;

/// A user id with its name, where the host knows one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    pub id: u32,
    pub name: Option<String>,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "uid {} ({name})", self.id),
            None => write!(f, "uid {}", self.id),
        }
    }
}

/// A process that another one descends from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ancestor {
    pub pid: u32,
    /// Its name (`comm`).
    pub name: String,
    /// Its arguments, joined with spaces.
    pub command_line: Option<String>,
}

/// The program that asked for a stop, a restart or an end, with the person or the program behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// When it was executed, or when it sent its signal.
    pub at: Timestamp,
    pub pid: u32,
    /// Its name (`comm`).
    pub name: String,
    /// Its arguments, joined with spaces, without secrets.
    pub command_line: Option<String>,
    /// Its real user.
    pub user: Account,
    /// The user of the login that it descends from (`/proc/PID/loginuid`); None without a login.
    pub login: Option<Account>,
    /// Its controlling terminal, such as `pts/3`.
    pub terminal: Option<String>,
    /// The systemd unit it runs in.
    pub unit: Option<String>,
    /// What started it, nearest first, without process 1.
    pub ancestors: Vec<Ancestor>,
    /// The same for two that were started in the same way: by the same user, with the same command lines.
    pub fingerprint: u64,
}

impl Actor {
    /// A number that is the same for two that were started in the same way.
    pub fn with_fingerprint(mut self) -> Self {
        // FNV-1a, 64 bits: equal on every machine, so that a replay decides alike.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut add = |text: &str| {
            for byte in text.bytes().chain([0]) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        };
        add(&self.user.id.to_string());
        add(self.command_line.as_ref().unwrap_or(&self.name));
        for ancestor in &self.ancestors {
            add(ancestor.command_line.as_ref().unwrap_or(&ancestor.name));
        }
        self.fingerprint = hash;
        self
    }

    /// All its foreign texts.
    pub fn texts(&mut self) -> impl Iterator<Item = &mut String> {
        let ancestors =
            self.ancestors.iter_mut().flat_map(|it| [Some(&mut it.name), it.command_line.as_mut()]);
        [Some(&mut self.name), self.command_line.as_mut(), self.unit.as_mut()]
            .into_iter()
            .chain(ancestors)
            .flatten()
    }
}

/// `uid 1000 (alice) on pts/3: systemctl stop web; started by bash < sshd`.
impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.user)?;
        let login = self.login.as_ref().filter(|login| login.id != self.user.id);
        if let Some(login) = login {
            write!(f, ", logged in as {login}")?;
        }
        if let Some(terminal) = &self.terminal {
            write!(f, "{} on {terminal}", if login.is_some() { "," } else { "" })?;
        }
        let command = self.command_line.as_ref().unwrap_or(&self.name);
        write!(f, ": {} (pid {})", cut(command, COMMAND_MAX), self.pid)?;
        for (nth, ancestor) in self.ancestors.iter().take(ANCESTORS_NAMED).enumerate() {
            f.write_str(if nth == 0 { ", started by " } else { " < " })?;
            let command = ancestor.command_line.as_ref().unwrap_or(&ancestor.name);
            f.write_str(&cut(command, ANCESTOR_MAX))?;
        }
        if let Some(unit) = &self.unit {
            write!(f, ", in {unit}")?;
        }
        Ok(())
    }
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// What a program asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RequestVerb {
    Stop,
    Restart,
    /// A signal, as by `kill` or `systemctl kill`.
    Kill,
}

/// That a program asked for a stop, a restart or an end of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutsideRequest {
    pub verb: RequestVerb,
    pub actor: Actor,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alice() -> Actor {
        let ancestor = |pid, name: &str| Ancestor { pid, name: name.to_owned(), command_line: None };
        Actor {
            at: Timestamp::from_nanos(5),
            pid: 42,
            name: "systemctl".to_owned(),
            command_line: Some("systemctl stop web".to_owned()),
            user: Account { id: 1000, name: Some("alice".to_owned()) },
            login: Some(Account { id: 1000, name: Some("alice".to_owned()) }),
            terminal: Some("pts/3".to_owned()),
            unit: Some("session-3.scope".to_owned()),
            ancestors: vec![ancestor(41, "bash"), ancestor(40, "sshd")],
            fingerprint: 0,
        }
        .with_fingerprint()
    }

    #[test]
    fn the_person_comes_first_and_what_started_the_program_last() {
        assert_eq!(
            alice().to_string(),
            "uid 1000 (alice) on pts/3: systemctl stop web (pid 42), started by bash < sshd, in session-3.scope"
        );
        let root = Actor { user: Account { id: 0, name: Some("root".to_owned()) }, ..alice() };
        assert!(
            root.to_string().starts_with("uid 0 (root), logged in as uid 1000 (alice), on pts/3: "),
            "{root}"
        );
        let without = Actor { terminal: None, ..root };
        assert!(
            without.to_string().starts_with("uid 0 (root), logged in as uid 1000 (alice): systemctl "),
            "{without}"
        );
    }

    #[test]
    fn two_that_were_started_in_the_same_way_have_one_fingerprint() {
        let later = Actor { pid: 50, at: Timestamp::from_nanos(9), ..alice() }.with_fingerprint();
        assert_eq!(later.fingerprint, alice().fingerprint);
        let other =
            Actor { command_line: Some("systemctl stop db".to_owned()), ..alice() }.with_fingerprint();
        assert_ne!(other.fingerprint, alice().fingerprint);
    }

    #[test]
    fn a_long_command_line_is_cut_between_characters() {
        let long = Actor { command_line: Some("ä".repeat(4000)), ..alice() }.to_string();
        assert!(long.chars().count() < 400, "{long}");
    }
}
