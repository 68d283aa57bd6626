//! What a user would run instead of hostprobe, each started by hand in a folder of its own, and ended when dropped.

pub mod monit;
pub mod polling_script;
pub mod supervisord;
