//! What a user would run instead of hostprobe, from the distribution's packages.

pub mod bcc;
pub mod netdata;
