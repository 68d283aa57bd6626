//! Descriptions as the engines send them.

use super::*;
use crate::host::ProcReader;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A moment of the wall clock, so many seconds ago: the clock of events begins with the boot.
fn ago(seconds: i64) -> String {
    (jiff::Timestamp::now() - jiff::SignedDuration::from_secs(seconds)).to_string()
}

fn described(status: &str, rest: &str) -> Description {
    let (started, finished) = (ago(20), ago(10));
    let text = format!(
        r#"{{"Id":"{ID}","Name":"/web","State":{{"Status":"{status}","StartedAt":"{started}",
        "FinishedAt":"{finished}"{rest}}},"Config":{{"Image":"nginx:1.27","Labels":{{"a":"b",
        "com.docker.compose.project":"shop"}}}},"HostConfig":{{"RestartPolicy":{{"Name":"on-failure","MaximumRetryCount":3}}}},
        "RestartCount":1,"NetworkSettings":null}}"#
    );
    serde_json::from_str(&text).unwrap()
}

fn reading(description: &Description, requests: &Requests) -> Reading {
    read(description, ContainerEngine::Docker, requests, &ProcReader::new("/").unwrap())
}

#[test]
fn a_failed_container_is_a_failed_unit_and_its_policy_applies_while_tries_are_left() {
    let mut failed = described("exited", r#","ExitCode":3"#);
    let read = reading(&failed, &Requests::default());
    let state = &read.state;
    assert_eq!((state.active.as_str(), state.result.as_str(), state.restarts), ("failed", "exit-code", 1));
    assert!(state.restarts_itself && read.policy_applies && read.has_ended() && !read.was_asked());
    assert!(!state.left_first(), "nothing asked for it");
    let container = state.container.as_ref().unwrap();
    assert_eq!((container.exit_code, container.label("a")), (Some(3), None));
    assert_eq!(container.label(COMPOSE_PROJECT), Some("shop"));
    failed.restart_count = 3;
    assert!(!reading(&failed, &Requests::default()).policy_applies);
    failed.state.exit_code = 0;
    failed.restart_count = 0;
    let clean = reading(&failed, &Requests::default());
    assert!(!clean.policy_applies && clean.state.result == "success" && clean.state.active == "inactive");
    failed.state.oom_killed = true;
    assert_eq!(reading(&failed, &Requests::default()).state.result, "oom-kill");
}

#[test]
fn a_stop_that_podman_shows_for_a_moment_only_is_remembered() {
    let stopping = reading(&described("stopping", r#","Pid":0"#), &Requests::default());
    assert_eq!(stopping.state.active, "deactivating");
    assert_eq!(stopping.state.job.as_ref().map(|job| job.kind.as_str()), Some("stop"));
    let mut requests = Requests::default();
    requests.note_stop("web", None);
    let ended = described("exited", r#","ExitCode":137"#);
    let read = reading(&ended, &requests);
    assert!(read.was_asked() && read.state.left_first() && !read.policy_applies);
    assert_eq!((read.state.active.as_str(), read.state.restarts), ("inactive", 0));
}

#[test]
fn a_removed_container_was_stopped_if_that_was_asked_for() {
    let before = reading(&described("running", r#","Pid":0"#), &Requests::default());
    let gone = absent("web", ContainerEngine::Docker, Some(&before), &Requests::default());
    assert_eq!((gone.load.as_str(), gone.left_first()), ("not-found", false));
    let mut requests = Requests::default();
    requests.note_stop("web", None);
    let removed = absent("web", ContainerEngine::Docker, Some(&before), &requests);
    assert_eq!((removed.load.as_str(), removed.left_first()), ("loaded", true));
    let removes_itself = Reading { auto_remove: true, ..before };
    let gone = absent("web", ContainerEngine::Docker, Some(&removes_itself), &requests);
    assert_eq!(gone.load, "not-found", "it removes itself at its end (--rm)");
}

#[test]
fn a_health_check_of_an_earlier_run_says_nothing() {
    let log = |end: &str| {
        let health = format!(
            r#","Health":{{"Status":"unhealthy","FailingStreak":2,"Log":[{{"End":"{end}","Output":"a\nb"}}]}}"#
        );
        let read = reading(&described("running", &health), &Requests::default());
        read.state.container.unwrap().health.unwrap()
    };
    let present = log(&ago(15));
    assert!(present.is_unhealthy() && present.failures == 2 && present.output == "a b");
    assert_eq!(log(&ago(25)).status, "starting");
}

#[test]
fn wrong_and_hostile_descriptions_have_bounds_and_no_panic() {
    let long = "é".repeat(100_000);
    for text in [
        "{}".to_owned(),
        r#"{"State":null,"Config":null,"HostConfig":null,"NetworkSettings":null}"#.to_owned(),
        format!(
            r#"{{"Id":"{long}","Name":"{long}","State":{{"Status":"{long}","StartedAt":"{long}"}},"Config":{{"Image":"{long}","StopTimeout":18446744073709551615}}}}"#
        ),
        r#"{"State":{"Status":"running","Pid":1,"StartedAt":"0001-01-01T00:00:00Z"}}"#.to_owned(),
        r#"{"State":{"Status":"exited","StartedAt":"{started}","FinishedAt":"1970-01-01T00:00:01Z"}}"#
            .to_owned(),
    ] {
        let description: Description = serde_json::from_str(&text).unwrap();
        let read = reading(&description, &Requests::default());
        let container = read.state.container.as_ref().unwrap();
        assert!(container.name.len() <= 256 && container.image.len() <= 256 && container.id.len() <= 64);
        assert!(read.state.invocation_id.len() < 64);
        assert_eq!(read.state.main, None, "no pid is believed that is not the container's");
    }
}
