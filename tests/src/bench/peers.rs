//! What a user would run instead of hostprobe, from the distribution's packages.

pub mod bcc;
pub mod blackbox;
pub mod monit;
pub mod netdata;
pub mod polling_script;
pub mod supervisord;
