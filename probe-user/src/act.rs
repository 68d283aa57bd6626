//! Acting on the host: the only modules that change it.

pub mod systemd;
