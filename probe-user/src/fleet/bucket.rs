//! The bucket of what holds now, and the stream of all events.

use std::time::Duration;

use async_nats::jetstream::{
    Context,
    kv::Store,
    stream::{Config, DiscardPolicy, StorageType},
};

use super::{
    message::{BEAT, MESSAGE_MAX},
    subject::{BUCKET, EVENTS, EVENTS_STREAM},
};

/// What a host published is forgotten after this long: it has published again several times, or is silent.
const TIME_TO_LIVE: Duration = Duration::from_secs(5 * BEAT.as_secs());

/// How long the stream keeps events, and how many bytes of them. The oldest go.
const EVENTS_LAST: Duration = Duration::from_secs(7 * 24 * 3600);
const EVENTS_BYTES: i64 = 1 << 30;

/// An event with the id of one that came within this time is the same one.
const DUPLICATES: Duration = Duration::from_secs(600);

/// Makes both where they are missing and this host may make them. The error says what is missing.
pub(super) async fn ensure(jetstream: &Context, replicas: usize) -> Result<(), String> {
    if jetstream.get_stream(format!("KV_{BUCKET}")).await.is_err() {
        // As clients of JetStream make a bucket. Theirs asks for what nats-server 2.9 does not report.
        let bucket = Config {
            name: format!("KV_{BUCKET}"),
            description: Some("what the hosts of hostprobe's fleet are like now".to_owned()),
            subjects: vec![format!("$KV.{BUCKET}.>")],
            max_messages_per_subject: 1,
            max_message_size: i32::try_from(MESSAGE_MAX).unwrap_or(i32::MAX),
            max_age: TIME_TO_LIVE,
            duplicate_window: TIME_TO_LIVE,
            discard: DiscardPolicy::New,
            allow_rollup: true,
            deny_delete: true,
            allow_direct: true,
            // It is published again within seconds.
            storage: StorageType::Memory,
            num_replicas: replicas,
            ..Config::default()
        };
        let made = jetstream.create_stream(bucket).await;
        made.map_err(|error| format!("the bucket {BUCKET} is missing and cannot be made: {error}"))?;
    }
    if jetstream.get_stream(EVENTS_STREAM).await.is_err() {
        let stream = Config {
            name: EVENTS_STREAM.to_owned(),
            subjects: vec![EVENTS.to_owned()],
            max_age: EVENTS_LAST,
            max_bytes: EVENTS_BYTES,
            discard: DiscardPolicy::Old,
            duplicate_window: DUPLICATES,
            num_replicas: replicas,
            ..Config::default()
        };
        let made = jetstream.create_stream(stream).await;
        made.map_err(|error| format!("the stream {EVENTS_STREAM} is missing and cannot be made: {error}"))?;
    }
    Ok(())
}

pub(super) async fn open(jetstream: &Context) -> Result<Store, String> {
    let bucket = jetstream.get_key_value(BUCKET).await;
    bucket.map_err(|error| format!("the bucket {BUCKET} cannot be read: {error}"))
}
