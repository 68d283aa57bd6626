//! The names of users, without a wait: the host's name service may ask another host.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{accounts, read_text};
use crate::bounded_thread;

/// More users than this have no names.
const USERS_MAX: usize = 4096;

/// The longest file of local users that is read.
const FILE_MAX: u64 = 4 << 20;

/// The names that are known by now. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Users(Arc<Mutex<HashMap<u32, Option<String>>>>);

impl Users {
    /// Begins with the local users of the host with this root folder, which a thread of its own reads.
    pub fn of_host(root: &Path) -> Self {
        let users = Self::default();
        let (read, path) = (users.clone(), root.join("etc/passwd"));
        let started = bounded_thread::start("users", move || {
            read.learn(&read_text(&path, FILE_MAX).unwrap_or_default())
        });
        if let Err(error) = started {
            tracing::debug!("the names of users cannot be read: {error}");
        }
        users
    }

    /// The name of a user. The first question for one that is no local user starts a search for the next question.
    pub fn name(&self, id: u32) -> Option<String> {
        let mut known = self.lock();
        if let Some(name) = known.get(&id) {
            return name.clone();
        }
        if known.len() < USERS_MAX {
            known.insert(id, None);
            drop(known);
            let users = self.clone();
            let find = move || {
                let name = accounts::user_name(id);
                users.lock().insert(id, name);
            };
            if let Err(error) = bounded_thread::start("user name", find) {
                tracing::debug!("uid {id}: its name cannot be looked up: {error}");
            }
        }
        None
    }

    /// Takes the lines of `passwd(5)`.
    fn learn(&self, text: &str) {
        let mut known = self.lock();
        for line in text.lines().take(USERS_MAX) {
            let mut fields = line.split(':');
            let (Some(name), Some(id)) = (fields.next(), fields.nth(1).and_then(|id| id.parse().ok())) else {
                continue;
            };
            known.entry(id).or_insert_with(|| Some(name.to_owned()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Option<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        thread::sleep,
        time::{Duration, Instant},
    };

    use super::*;

    #[test]
    fn local_users_are_known_and_garbage_is_left_out() {
        let users = Users::default();
        users.learn(
            "root:x:0:0:root:/root:/bin/sh\nbroken\nalice:x:1000:1000::/home/alice:/bin/sh\nb:x:no:1\n",
        );
        assert_eq!(users.name(0).as_deref(), Some("root"));
        assert_eq!(users.name(1000).as_deref(), Some("alice"));
    }

    #[test]
    fn a_user_that_is_not_known_yet_is_known_at_a_later_question() {
        let users = Users::default();
        assert_eq!(users.name(0), None);
        let by = Instant::now() + Duration::from_secs(20);
        while users.name(0).as_deref() != Some("root") {
            assert!(Instant::now() < by, "the name service knows root");
            sleep(Duration::from_millis(5));
        }
        assert_eq!(users.name(3_999_999_999), None);
    }
}
