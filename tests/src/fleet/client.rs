//! A client of the hub's NATS server that is no hostprobe.

use std::{
    future::Future,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use async_nats::{Client, jetstream};
use tokio::runtime::Builder;

use super::{HUB, PORT};

/// Does the work of a client in the network namespace of the calling thread.
///
/// # Panics
/// If there can be no runtime.
pub fn run<T>(work: impl Future<Output = T>) -> T {
    Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

/// # Panics
/// If NATS is not there.
pub async fn connect() -> Client {
    async_nats::connect(format!("nats://{HUB}:{PORT}")).await.expect("NATS is there")
}

/// # Panics
/// If NATS is not there.
pub async fn jetstream() -> jetstream::Context {
    jetstream::new(connect().await)
}

/// Publishes again and again while `work` runs, also if that fails.
pub fn while_publishing<F: Future<Output = ()>>(publish: impl Fn(Client) -> F + Sync, work: impl FnOnce()) {
    struct Ends<'e>(&'e AtomicBool);
    impl Drop for Ends<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
        }
    }
    let ends = AtomicBool::new(false);
    // The threads are in the network namespace of the hub.
    thread::scope(|scope| {
        scope.spawn(|| {
            run(async {
                let client = connect().await;
                while !ends.load(Ordering::Acquire) {
                    publish(client.clone()).await;
                }
            });
        });
        let _ends = Ends(&ends);
        work();
    });
}
