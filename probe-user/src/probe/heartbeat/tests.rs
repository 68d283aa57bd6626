//! Beats, tokens, and what an earlier run of the daemon knows.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::time::advance;

use super::*;
use crate::{
    config::{Identity, Limits, Policy, RestartPolicy, Secret},
    fact::{ProbeKind, ServiceId},
};

const HOUR: Duration = Duration::from_secs(3600);

fn heartbeat(name: &str, token: Option<&str>) -> Heartbeat {
    let token = token.map(|token| Secret::shown_as(token, "***", Vec::new()));
    Heartbeat { name: name.to_owned(), every: HOUR, grace: HOUR / 6, token }
}

fn service(heartbeats: &[Heartbeat]) -> Vec<Service> {
    let probe = |heartbeat: &Heartbeat| Probe {
        heartbeat: Some(heartbeat.clone()),
        ..Probe::new(ProbeKind::Heartbeat, Secret::new(&heartbeat.name))
    };
    vec![Service {
        id: ServiceId(0),
        name: "jobs".to_owned(),
        identity: Identity::Remote,
        depends_on: Vec::new(),
        start_after: Vec::new(),
        critical: true,
        maintenance: Vec::new(),
        probes: heartbeats.iter().map(probe).collect(),
        restart: RestartPolicy::default(),
        limits: Limits::default(),
        policy: Policy::default(),
    }]
}

#[derive(Default)]
struct Keeper(Mutex<Vec<(String, KeptBeat)>>);

impl BeatKeeper for Keeper {
    fn keep_beat(&self, name: &str, beat: KeptBeat) {
        self.0.lock().unwrap().push((name.to_owned(), beat));
    }
}

fn waiting(heartbeat: &Heartbeat, kept: Option<KeptBeat>) -> (Heartbeats, Arc<Keeper>) {
    waiting_after(heartbeat, kept, Duration::ZERO)
}

/// `off`: how long the host was off since.
fn waiting_after(heartbeat: &Heartbeat, kept: Option<KeptBeat>, off: Duration) -> (Heartbeats, Arc<Keeper>) {
    let keeper = Arc::new(Keeper::default());
    let heartbeats = Heartbeats::new(Some(Arc::clone(&keeper) as Arc<dyn BeatKeeper>));
    let kept = kept.map(|kept| (heartbeat.name.clone(), kept)).into_iter().collect();
    heartbeats.configure(&service(std::slice::from_ref(heartbeat)), Earlier { beats: Some(&kept), off });
    (heartbeats, keeper)
}

fn silence(heartbeats: &Heartbeats, of: &Heartbeat) -> Option<String> {
    heartbeats.check(of, || {}).err().map(|failure| {
        assert_eq!(failure.kind, ProbeFailure::Silent);
        failure.text
    })
}

#[tokio::test(start_paused = true)]
async fn silence_counts_after_every_and_grace_and_a_beat_ends_it_at_once() {
    let backup = heartbeat("backup", None);
    let (heartbeats, _) = waiting(&backup, None);
    advance(HOUR + HOUR / 6).await;
    assert_eq!(silence(&heartbeats, &backup), None);
    advance(Duration::from_secs(1)).await;
    let text = silence(&heartbeats, &backup).unwrap();
    assert!(text.starts_with("backup has never reported in, and is waited for since "), "{text}");
    assert!(text.ends_with("; expected every 3600s, 600s late at most"), "{text}");

    static WOKEN: AtomicU32 = AtomicU32::new(0);
    let wake = || _ = WOKEN.fetch_add(1, Ordering::Relaxed);
    heartbeats.check(&backup, wake).unwrap_err();
    heartbeats.beat("backup", Caller::Admitted).unwrap();
    heartbeats.beat("backup", Caller::Admitted).unwrap();
    assert_eq!((WOKEN.load(Ordering::Relaxed), silence(&heartbeats, &backup)), (1, None));
    advance(HOUR * 2).await;
    let text = silence(&heartbeats, &backup).unwrap();
    assert!(text.starts_with("backup has not reported in for 7200s, since "), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_beats_is_kept_once_a_second() {
    let backup = heartbeat("backup", None);
    let (heartbeats, keeper) = waiting(&backup, None);
    for _ in 0..1000 {
        heartbeats.beat("backup", Caller::Admitted).unwrap();
    }
    advance(Duration::from_secs(1)).await;
    heartbeats.beat("backup", Caller::Admitted).unwrap();
    let kept = keeper.0.lock().unwrap();
    let beats: Vec<bool> = kept.iter().map(|(_, beat)| beat.beat_us.is_some()).collect();
    assert_eq!(beats, [false, true, true], "the wait began, and two beats");
}

#[tokio::test(start_paused = true)]
async fn the_beat_of_an_earlier_run_counts_and_what_that_missed_gets_time() {
    let backup = heartbeat("backup", None);
    let ago = |time: Duration| now_us() - i64::try_from(time.as_micros()).unwrap();
    let kept = |beat: Duration| Some(KeptBeat { since_us: 0, beat_us: Some(ago(beat)) });
    let (heartbeats, _) = waiting(&backup, kept(HOUR));
    advance(HOUR / 6 - Duration::from_secs(1)).await;
    assert_eq!(silence(&heartbeats, &backup), None);
    advance(Duration::from_secs(2)).await;
    assert!(silence(&heartbeats, &backup).is_some());

    let (heartbeats, _) = waiting(&backup, kept(24 * HOUR));
    advance(AFTER_START - Duration::from_secs(1)).await;
    assert_eq!(silence(&heartbeats, &backup), None, "it may have reported in while no daemon ran");
    advance(Duration::from_secs(1)).await;
    assert!(silence(&heartbeats, &backup).unwrap().contains("not reported in for 870"));

    let (heartbeats, _) = waiting(&backup, Some(KeptBeat { since_us: 0, beat_us: Some(i64::MAX) }));
    advance(HOUR).await;
    assert_eq!(silence(&heartbeats, &backup), None, "the clock was set back");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_was_off_is_no_silence_of_its_jobs() {
    let backup = heartbeat("backup", None);
    let kept = |beat: Duration| {
        let beat = now_us() - i64::try_from(beat.as_micros()).unwrap();
        Some(KeptBeat { since_us: 0, beat_us: Some(beat) })
    };
    let (heartbeats, _) = waiting_after(&backup, kept(24 * HOUR), 23 * HOUR + HOUR / 2);
    advance(HOUR / 2).await;
    assert_eq!(silence(&heartbeats, &backup), None, "the host was up for an hour of this time");
    advance(HOUR / 2).await;
    let text = silence(&heartbeats, &backup).unwrap();
    assert!(text.contains(", not counting 84600s while the host was off; expected every"), "{text}");
    heartbeats.beat("backup", Caller::Admitted).unwrap();
    advance(HOUR * 2).await;
    assert!(!silence(&heartbeats, &backup).unwrap().contains("not counting"));

    let (heartbeats, _) = waiting_after(&backup, kept(HOUR), 24 * HOUR);
    advance(HOUR).await;
    assert_eq!(silence(&heartbeats, &backup), None, "it reported in while the daemon did not run");
}

#[tokio::test(start_paused = true)]
async fn a_reload_keeps_the_beats_of_heartbeats_that_stay() {
    let (backup, other) = (heartbeat("backup", None), heartbeat("other", None));
    let (heartbeats, _) = waiting(&backup, None);
    advance(HOUR).await;
    heartbeats.configure(&service(&[backup.clone(), other.clone()]), Earlier::default());
    advance(HOUR / 2).await;
    assert!(silence(&heartbeats, &backup).is_some());
    assert_eq!(silence(&heartbeats, &other), None);
    heartbeats.configure(&service(&[other]), Earlier::default());
    assert_eq!(heartbeats.beat("backup", Caller::Admitted), Err(NoBeat::Unknown));
}

#[tokio::test(start_paused = true)]
async fn a_token_is_needed_where_one_is_set_or_the_caller_may_be_elsewhere() {
    let http = |is_local, token| Caller::Http { is_local, token };
    let (open, _) = waiting(&heartbeat("a", None), None);
    assert_eq!(open.beat("a", http(true, None)), Ok(()));
    assert_eq!(open.beat("a", http(false, None)), Err(NoBeat::NeedsToken));
    let (closed, _) = waiting(&heartbeat("a", Some("correct-horse-battery")), None);
    for is_local in [true, false] {
        assert_eq!(closed.beat("a", http(is_local, None)), Err(NoBeat::WrongToken));
        assert_eq!(closed.beat("a", http(is_local, Some("correct-horse"))), Err(NoBeat::WrongToken));
        assert_eq!(closed.beat("a", http(is_local, Some("correct-horse-battery"))), Ok(()));
    }
    assert_eq!(closed.beat("a", Caller::Admitted), Ok(()), "the kernel vouches for it");
}
