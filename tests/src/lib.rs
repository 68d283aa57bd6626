//! Real parts that several tests share.

pub mod systemd;
