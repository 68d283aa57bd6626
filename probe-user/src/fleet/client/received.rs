//! Messages of other hosts, as the thread of the fleet takes them.

use std::time::Instant;

use tokio::sync::mpsc;

use super::{Member, SELDOM, SEQUENCES, inbox::Received};
use crate::fleet::{
    message::{self, Alive, Claim, Held, Refusal, State},
    peers::Report,
    subject::Key,
};

/// So many messages are taken before the daemon gets what is new: what they change is looked for once.
const AT_ONCE: usize = 64;

impl<T: From<Report> + Send + 'static> Member<T> {
    /// Takes a message and those that have come since. False if all are signs of life: the next look reports a host that is
    /// heard again.
    pub(super) fn on_messages(&mut self, first: Received, further: &mut mpsc::Receiver<Received>) -> bool {
        let (mut next, mut tells) = (Some(first), false);
        for _ in 0..AT_ONCE {
            let Some(message) = next else { break };
            tells |= !message.subject.contains(".alive.");
            if let Some(Err(_)) = self.take(&message) {
                self.refuse();
            }
            next = further.try_recv().ok();
        }
        tells
    }

    /// None for a subject that is no key.
    fn take(&mut self, message: &Received) -> Option<Result<(), Refusal>> {
        let key = Key::read(&message.subject)?;
        Some(self.take_of(&key, message))
    }

    fn take_of(&mut self, key: &Key, message: &Received) -> Result<(), Refusal> {
        // A deletion of a key says nothing.
        if message.payload.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        let place = (message.subject.as_str(), key.host());
        let keys = self.files.keys.as_ref();
        match key {
            Key::Alive(host) => {
                let (alive, sequence) = message::read::<Alive>(&message.payload, place, keys)?;
                let is_own = self.is_new(key, sequence)
                    && !self.peers.on_alive(host, alive, &self.run, now)
                    && self.said.is_none_or(|said| now.duration_since(said) >= SELDOM);
                if is_own {
                    self.said = Some(now);
                    tracing::error!(
                        "fleet: another host calls itself {host} too; set fleet.name on one of them"
                    );
                }
            }
            Key::State(host) => {
                let (state, sequence) = message::read::<State>(&message.payload, place, keys)?;
                if self.is_new(key, sequence) {
                    self.peers.on_state(host, state.bounded(), now);
                }
            }
            Key::Address(address, host) => {
                let (_, sequence) = message::read::<Claim>(&message.payload, place, keys)?;
                if self.is_new(key, sequence) {
                    self.peers.on_claim(*address, host, now);
                }
            }
            Key::Held(_, host) => {
                let (held, sequence) = message::read::<Held>(&message.payload, place, keys)?;
                if self.is_new(key, sequence) {
                    self.peers.on_held(host, held.bounded());
                }
            }
        }
        Ok(())
    }

    /// Whether a signed message is later than those before it: a server could send old ones again.
    fn is_new(&mut self, key: &Key, sequence: u64) -> bool {
        if self.files.keys.is_none() {
            return true;
        }
        if self.sequences.len() >= SEQUENCES && !self.sequences.contains_key(key) {
            return false;
        }
        let latest = self.sequences.entry(key.clone()).or_default();
        let is_new = sequence > *latest;
        *latest = sequence.max(*latest);
        is_new
    }
}
