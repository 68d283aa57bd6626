//! All fuzzers in one program, which is linked once. The variable `HOSTPROBE_FUZZER` says which of them runs.
#![no_main]

use std::{env, process, sync::LazyLock};

mod targets {
    pub mod config;
    pub mod grpc;
    pub mod http;
    pub mod kernel;
    pub mod mysql;
    pub mod postgres;
    pub mod probes;
    pub mod proc;
    pub mod query;
    pub mod redis;
    pub mod replay;
    pub mod requests;
    pub mod text;
}

/// The fuzzer that was asked for.
static FUZZER: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = env::var("HOSTPROBE_FUZZER").unwrap_or_default();
    match name.as_str() {
        "config" => targets::config::fuzz,
        "grpc" => targets::grpc::fuzz,
        "http" => targets::http::fuzz,
        "kernel" => targets::kernel::fuzz,
        "mysql" => targets::mysql::fuzz,
        "postgres" => targets::postgres::fuzz,
        "probes" => targets::probes::fuzz,
        "proc" => targets::proc::fuzz,
        "query" => targets::query::fuzz,
        "redis" => targets::redis::fuzz,
        "replay" => targets::replay::fuzz,
        "requests" => targets::requests::fuzz,
        "text" => targets::text::fuzz,
        other => {
            eprintln!("HOSTPROBE_FUZZER={other:?}: no such fuzzer");
            process::exit(2);
        }
    }
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| FUZZER(input));
