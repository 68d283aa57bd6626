//! The bytes that a probe sends and expects.

use std::fmt;

use super::bytes::Filled;

/// What is sent over a connection, and what is expected. The variables in it are secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Exchange {
    pub send: Option<Vec<u8>>,
    pub expect: Option<Expected>,
    /// The values that the environment put in.
    pub(super) inserted: Vec<String>,
}

/// What an answer must be.
#[derive(Clone, PartialEq, Eq)]
pub struct Expected {
    pub place: Place,
    pub bytes: Vec<u8>,
    /// As it is written in the configuration.
    pub shown: String,
}

/// Where in the answer the bytes must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Start,
    Anywhere,
}

impl Exchange {
    /// Whether nothing is sent or expected.
    pub fn is_empty(&self) -> bool {
        self.send.is_none() && self.expect.is_none()
    }

    /// The values that the environment put in.
    pub fn secrets(&self) -> &[String] {
        &self.inserted
    }

    pub(super) fn send(&mut self, Filled { bytes, inserted, .. }: Filled) {
        self.send = Some(bytes);
        self.inserted.extend(inserted);
    }

    pub(super) fn expect(&mut self, place: Place, Filled { bytes, shown, inserted }: Filled) {
        self.expect = Some(Expected { place, bytes, shown });
        self.inserted.extend(inserted);
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sent = self.send.as_ref().map(Vec::len);
        write!(f, "Exchange {{ {sent:?} bytes, {:?} }}", self.expect.as_ref().map(ToString::to_string))
    }
}

impl fmt::Display for Expected {
    /// Completes "expected an answer that …".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.place {
            Place::Start => "begins with",
            Place::Anywhere => "contains",
        };
        write!(f, "{verb} {:?}", self.shown)
    }
}
