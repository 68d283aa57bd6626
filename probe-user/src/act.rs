//! What the daemon does about incidents: the only code that changes anything outside the daemon.

pub mod alert;
