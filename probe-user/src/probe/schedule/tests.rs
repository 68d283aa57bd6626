use tokio::net::{TcpListener, TcpSocket};

use super::*;
use crate::{
    fact::{Examination, ProbeFailure, ProbeKind},
    probe::tests::probe,
};

const SECOND: Duration = Duration::from_secs(1);

/// Reports of silent services are dropped.
fn prober(reports: mpsc::Sender<ProbeReport>) -> Prober {
    Prober::new(Clients::new().unwrap(), reports, mpsc::channel(1).0)
}

/// A TCP probe that by itself would run only once in this test's lifetime, if at all.
fn hourly(target: std::net::SocketAddr) -> (ProbeHandle, mpsc::Receiver<ProbeReport>) {
    let (reports, receiver) = mpsc::channel(64);
    let mut probe = probe(ProbeKind::Tcp, &target.to_string());
    probe.interval = 3600 * SECOND;
    let mut prober = prober(reports);
    (prober.spawn(ServiceId(0), 0, probe), receiver)
}

/// A port that nothing listens on.
fn free_port() -> (TcpSocket, std::net::SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

#[tokio::test]
async fn recovery_probes_until_the_first_success_and_then_rests() {
    let (socket, address) = free_port();
    let (handle, mut reports) = hourly(address);
    handle.recover();
    for _ in 0..4 {
        let report = reports.recv().await.unwrap();
        assert!(matches!(report.outcome, ProbeOutcome::Failed(ProbeFailure::Refused, _)), "{report:?}");
    }
    let _listener = socket.listen(8).unwrap();
    handle.now();
    while reports.recv().await.unwrap().outcome != ProbeOutcome::Ok {}
    // At most the probe's very first tick is still to come.
    let more = tokio::time::timeout(3 * SECOND, async {
        while let Some(report) = reports.recv().await {
            assert_eq!(report.outcome, ProbeOutcome::Ok);
        }
    });
    tokio::time::pause();
    assert!(more.await.is_err());
}

#[tokio::test]
async fn now_during_a_run_leads_to_one_more_run() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (reports, mut receiver) = mpsc::channel(64);
    let mut probe = probe(ProbeKind::Mysql, &listener.local_addr().unwrap().to_string());
    probe.interval = 3600 * SECOND;
    let handle = prober(reports).spawn(ServiceId(0), 0, probe);
    handle.now();
    // The run is under way and waits for a greeting that does not come.
    let (stream, _) = listener.accept().await.unwrap();
    handle.now();
    handle.now();
    drop(stream);
    assert!(matches!(receiver.recv().await.unwrap().outcome, ProbeOutcome::Failed(ProbeFailure::Reset, _)));
    drop(listener.accept().await.unwrap());
    receiver.recv().await.unwrap();
}

#[tokio::test]
async fn a_paused_probe_rests_and_a_dropped_one_ends() {
    let (_socket, address) = free_port();
    let (handle, mut reports) = hourly(address);
    handle.pause();
    handle.now();
    tokio::task::yield_now().await;
    assert!(reports.try_recv().is_err());
    handle.resume();
    reports.recv().await.unwrap();
    drop(handle);
    while reports.recv().await.is_some() {}
}

#[tokio::test]
async fn a_full_channel_makes_the_probe_wait() {
    let (_socket, address) = free_port();
    let (reports, mut receiver) = mpsc::channel(1);
    let mut probe = probe(ProbeKind::Tcp, &address.to_string());
    probe.interval = Duration::from_millis(1);
    let _handle = prober(reports).spawn(ServiceId(0), 3, probe);
    for _ in 0..20 {
        let report = receiver.recv().await.unwrap();
        assert_eq!((report.service, report.index), (ServiceId(0), 3));
    }
}

#[tokio::test]
async fn ticks_do_not_drift_and_missed_ones_are_left_out() {
    let first = Instant::now();
    let tick = |after: Duration| next_tick(first, 10 * SECOND, first + after) - first;
    assert_eq!(tick(Duration::ZERO), 10 * SECOND);
    assert_eq!(tick(SECOND), 10 * SECOND);
    assert_eq!(tick(10 * SECOND), 20 * SECOND);
    assert_eq!(tick(37 * SECOND), 40 * SECOND);
    assert_eq!(next_tick(first + SECOND, SECOND, first), first + SECOND, "the first tick is still to come");
}

#[tokio::test]
async fn waits_double_up_to_the_interval_and_follow_a_start() {
    let failed = ProbeOutcome::Failed(ProbeFailure::Refused, String::new());
    let mut recovery = Recovery::begin();
    let waits: Vec<u128> =
        (0..6).map(|_| recovery.wait(&failed, Duration::from_millis(10)).as_millis()).collect();
    assert_eq!(waits, [1, 2, 4, 8, 10, 10]);

    let mut recovery = Recovery { began: Instant::now() - 8 * SECOND, wait: 64 * SECOND };
    let wait = recovery.wait(&ProbeOutcome::Starting(String::new()), 3600 * SECOND);
    assert!(wait >= SECOND && wait < 2 * SECOND, "an eighth of the time so far, got {wait:?}");
}

/// An HTTP server that answers every request with this status while `answers` is true, and keeps silent else.
struct Server {
    target: String,
    answers: tokio::sync::watch::Sender<Option<u16>>,
    accepted: Arc<std::sync::atomic::AtomicUsize>,
}

impl Server {
    async fn start() -> Self {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = format!("http://{}/health", listener.local_addr().unwrap());
        let (answers, reported) = tokio::sync::watch::channel(Some(200));
        let accepted = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                let mut reported = reported.clone();
                tokio::spawn(async move {
                    let _ = stream.read(&mut [0; 1024]).await;
                    let Ok(status) = reported.wait_for(Option::is_some).await.map(|status| status.unwrap())
                    else {
                        return;
                    };
                    let answer =
                        format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        Self { target, answers, accepted }
    }

    /// A probe of it that has been answered before, and runs on request only.
    async fn probed(&self, failures: u32, timeout: Duration) -> (ProbeHandle, mpsc::Receiver<ProbeReport>) {
        self.probed_and_watched(failures, timeout, mpsc::channel(1).0).await
    }

    /// The same, and `silences` hears of it while it is silent.
    async fn probed_and_watched(
        &self,
        failures: u32,
        timeout: Duration,
        silences: mpsc::Sender<Silence>,
    ) -> (ProbeHandle, mpsc::Receiver<ProbeReport>) {
        let (reports, mut receiver) = mpsc::channel(64);
        let mut probe = probe(ProbeKind::Http, &self.target);
        (probe.interval, probe.timeout, probe.failures) = (3600 * SECOND, timeout, failures);
        let mut prober = Prober::new(Clients::new().unwrap(), reports, silences);
        let mut tries = 0;
        loop {
            let handle = prober.spawn(ServiceId(7), 0, probe.clone());
            // Its own first tick is over after this, so that no other run comes into a test.
            let report = receiver.recv().await.unwrap();
            assert_eq!(report.outcome, ProbeOutcome::Ok);
            tries += 1;
            // The first answer is what is usual. After a late one, further attempts would begin later, or not at all.
            if report.duration <= timeout / 40 || tries == 100 {
                self.accepted.store(1, std::sync::atomic::Ordering::SeqCst);
                return (handle, receiver);
            }
        }
    }

    fn accepted(&self) -> usize {
        self.accepted.load(std::sync::atomic::Ordering::SeqCst)
    }
}

#[tokio::test]
async fn while_a_probe_hangs_further_ones_are_begun_as_many_as_failures_are_wanted() {
    let server = Server::start().await;
    let (handle, mut reports) = server.probed(3, SECOND).await;
    server.answers.send_replace(None);
    let begun = Instant::now();
    handle.now();
    for (number, ended) in [1000, 1250, 1500].into_iter().enumerate() {
        let report = reports.recv().await.unwrap();
        assert!(report.outcome.is_timeout(), "{report:?}");
        assert!(report.duration >= SECOND, "each has its whole timeout: {report:?}");
        let after = begun.elapsed();
        let ended = Duration::from_millis(ended);
        assert!(after >= ended, "number {number} after {after:?}");
    }
    assert!(begun.elapsed() < 3 * SECOND, "one after the other: {:?}", begun.elapsed());
    assert_eq!(server.accepted(), 1 + 3, "one answered, and three in a row");
    // From now on it is asked as any other is: one at a time.
    handle.now();
    reports.recv().await.unwrap();
    assert_eq!(server.accepted(), 1 + 3 + 1);
}

#[tokio::test]
async fn silence_to_all_attempts_with_a_short_timeout_is_reported_once() {
    let server = Server::start().await;
    let (silences, mut reported) = mpsc::channel(8);
    let (handle, mut reports) = server.probed_and_watched(3, SECOND / 4, silences.clone()).await;
    handle.now();
    assert_eq!(reports.recv().await.unwrap().outcome, ProbeOutcome::Ok);
    assert!(reported.try_recv().is_err(), "it answers");
    server.answers.send_replace(None);
    handle.now();
    assert_eq!(reported.recv().await, Some(Silence::Whole(ServiceId(7))));
    for _ in 0..3 {
        assert!(reports.recv().await.unwrap().outcome.is_timeout());
    }
    assert_eq!(reported.try_recv(), Ok(Silence::Late(ServiceId(7))), "before the first times out");
    assert!(reported.try_recv().is_err(), "once");
    assert_eq!(server.accepted(), 2 + 3);

    let server = Server::start().await;
    let (handle, mut reports) = server.probed_and_watched(3, SECOND, silences).await;
    server.answers.send_replace(None);
    let before = Timestamp::now();
    handle.now();
    let first = reports.recv().await.unwrap();
    for _ in 0..2 {
        assert!(reports.recv().await.unwrap().outcome.is_timeout());
    }
    let Ok(Silence::Twice(twice)) = reported.try_recv() else { panic!("two attempts waited") };
    assert_eq!((twice.service, twice.index, twice.kind), (ServiceId(7), 0, ProbeKind::Http));
    assert!(twice.since >= before && twice.target == first.target && first.outcome.is_timeout(), "{twice:?}");
    assert_eq!(reported.try_recv(), Ok(Silence::Late(ServiceId(7))));
    assert!(reported.try_recv().is_err(), "there is time enough when the first has timed out");
}

#[tokio::test]
async fn no_third_attempt_wakes_the_service_while_it_is_examined() {
    let server = Server::start().await;
    let (silences, mut reported) = mpsc::channel(8);
    let (handle, mut reports) = server.probed_and_watched(3, SECOND, silences).await;
    server.answers.send_replace(None);
    handle.now();
    assert!(matches!(reported.recv().await, Some(Silence::Twice(_))));
    let examined = Instant::now();
    while server.accepted() < 1 + 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(examined.elapsed() >= Examination::OVER_BEFORE_TIMEOUT, "{:?}", examined.elapsed());
    server.answers.send_replace(Some(200));
    assert_eq!(reports.recv().await.unwrap().outcome, ProbeOutcome::Ok);
}

#[tokio::test]
async fn a_pause_of_more_than_a_time_out_is_over_with_the_first_answer() {
    let server = Server::start().await;
    let (handle, mut reports) = server.probed(3, 2 * SECOND).await;
    server.answers.send_replace(None);
    handle.now();
    let first = reports.recv().await.unwrap();
    assert!(first.outcome.is_timeout(), "{first:?}");
    server.answers.send_replace(Some(200));
    let second = reports.recv().await.unwrap();
    assert_eq!(second.outcome, ProbeOutcome::Ok);
    assert!(second.duration > SECOND && second.duration < 2 * SECOND, "it says how long it took: {second:?}");
    // The third one is not reported of: it was asked before the answer that counts.
    let more = tokio::time::timeout(2 * SECOND, reports.recv());
    assert!(more.await.is_err());
}

#[tokio::test]
async fn a_late_wrong_status_is_one_failure() {
    let server = Server::start().await;
    let (handle, mut reports) = server.probed(3, SECOND).await;
    server.answers.send_replace(None);
    handle.now();
    while server.accepted() < 1 + 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.answers.send_replace(Some(503));
    let report = reports.recv().await.unwrap();
    assert!(matches!(report.outcome, ProbeOutcome::Failed(ProbeFailure::Status, _)), "{report:?}");
    let more = tokio::time::timeout(SECOND + SECOND / 2, reports.recv());
    assert!(more.await.is_err(), "the next one is asked at its own time");
}

#[tokio::test]
async fn attempts_do_not_overlap_before_the_first_answer_or_with_failures_of_one() {
    let server = Server::start().await;
    let (handle, mut reports) = server.probed(1, SECOND / 4).await;
    server.answers.send_replace(None);
    handle.now();
    assert!(reports.recv().await.unwrap().outcome.is_timeout());
    assert_eq!(server.accepted(), 1 + 1);

    let (reports, mut receiver) = mpsc::channel(64);
    let mut probe = probe(ProbeKind::Http, &server.target);
    (probe.interval, probe.timeout) = (3600 * SECOND, SECOND / 4);
    let _handle = prober(reports).spawn(ServiceId(0), 0, probe);
    assert!(receiver.recv().await.unwrap().outcome.is_timeout());
    assert_eq!(server.accepted(), 2 + 1);
}

#[tokio::test]
async fn a_silent_run_that_takes_its_whole_interval_costs_no_second_one() {
    let server = Server::start().await;
    server.answers.send_replace(None);
    let (reports, mut receiver) = mpsc::channel(64);
    let mut probe = probe(ProbeKind::Http, &server.target);
    (probe.interval, probe.timeout) = (SECOND / 4, SECOND / 4);
    let _handle = prober(reports).spawn(ServiceId(0), 0, probe);
    receiver.recv().await.unwrap();
    let first = Instant::now();
    for _ in 0..8 {
        receiver.recv().await.unwrap();
    }
    assert!(first.elapsed() < SECOND / 4 * 15, "eight timeouts and not sixteen: {:?}", first.elapsed());
}
