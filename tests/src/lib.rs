//! The harness of the tests against real parts: a daemon under test, a service that fails on demand, and the
//! servers it depends on, each in a folder and on a port of its own and gone when its handle is dropped.

pub mod bench;
pub mod cgroup;
pub mod cpu;
pub mod daemon;
pub mod deaths;
pub mod demo;
pub mod ecs;
pub mod fault;
pub mod hanging_mount;
pub mod http;
pub mod incident_events;
pub mod installed;
pub mod lab;
pub mod latch;
pub mod lineage;
pub mod many_processes;
pub mod matrix;
pub mod memcg;
pub mod network;
pub mod parts;
pub mod podman;
pub mod process;
pub mod program;
pub mod rights;
pub mod schema;
pub mod soak;
pub mod storm;
pub mod supervised;
pub mod systemd;
pub mod unit_matrix;
pub mod victim;
