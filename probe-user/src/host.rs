//! What `/proc` and the cgroup files tell of this host.
