//! What the daemon keeps in its state directory.

pub mod recording;
