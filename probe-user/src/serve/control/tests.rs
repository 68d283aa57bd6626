//! Requests over a real socket.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        net::{UnixListener as StdListener, UnixStream as Client},
    },
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use tokio::{io::AsyncWriteExt as _, sync::watch};

use super::*;
use crate::{
    emit::{Tail, tests::samples},
    fact::{CommandKind, ServiceState},
    serve::{Metrics, Past, View, tests::service},
};

fn shown() -> Shown {
    let services = vec![service("api", ServiceState::Down)];
    let (view, shown) = watch::channel(Arc::new(View { ready: true, services, ..View::default() }));
    // What was published last stays to be seen.
    drop(view);
    Shown {
        origin: Arc::new(samples::origin()),
        view: shown,
        metrics: Arc::new(Metrics::new(samples::names())),
        history: Arc::default(),
        tail: Tail::default(),
        heartbeats: Default::default(),
        past: Past::default(),
        hosts: Default::default(),
    }
}

fn folder() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("new").join("control.sock");
    (folder, path)
}

async fn ask(path: &Path, request: &[u8]) -> Answer {
    let mut stream = UnixStream::connect(path).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).await.unwrap();
    serde_json::from_str(&line).unwrap()
}

/// A daemon that answers each request to reload, and repeats each command.
fn requests() -> Requests {
    let (reloads, mut inbox) = mpsc::channel::<ReloadRequest>(1);
    let (operations, mut commands) = mpsc::channel::<OperatorRequest>(1);
    tokio::spawn(async move {
        while let Some(ReloadRequest { answer, .. }) = inbox.recv().await {
            let _ = answer.send(Reload::Applied(Default::default()));
        }
    });
    tokio::spawn(async move {
        while let Some(OperatorRequest { operation, by, answer }) = commands.recv().await {
            let _ = answer.send(Ok(format!("{:?} by uid {}", operation.target, by.user.id)));
        }
    });
    // None is asked for.
    let (drills, _) = mpsc::channel(1);
    Requests { reloads, operations, drills, alert_tests: mpsc::channel(1).0 }
}

#[tokio::test]
async fn a_question_is_answered_in_one_line() {
    let (_folder, path) = folder();
    let socket = open(&path, None).await.unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let server = tokio::spawn(serve(socket, shown(), requests()));
    let Answer::Status(status) = ask(&path, b"{\"command\":\"status\"}\n").await else { panic!("a status") };
    assert_eq!(status.services[0].name, "api");
    assert_eq!(ask(&path, b"{\"command\":\"incidents\"}\n").await, Answer::Incidents(Vec::new()));
    let refused = |answer, expected| match &answer {
        Answer::Error(refusal) => assert_eq!(refusal.kind, expected, "{}", refusal.message),
        Answer::Status(_)
        | Answer::Incidents(_)
        | Answer::Explanation(_)
        | Answer::Report(_)
        | Answer::Reload(_)
        | Answer::DrillPlan(_)
        | Answer::Drill(_)
        | Answer::AlertTest(_)
        | Answer::Done(_) => {
            panic!("{answer:?}")
        }
    };
    refused(ask(&path, b"{\"command\":\"explain\",\"incident\":\"3\"}\n").await, RefusalKind::NotFound);
    refused(ask(&path, b"{\"command\":\"dance\"}\n").await, RefusalKind::BadRequest);
    refused(ask(&path, b"\xff\n").await, RefusalKind::BadRequest);
    refused(ask(&path, &[b'x'; MAX_REQUEST as usize]).await, RefusalKind::BadRequest);

    server.abort();
    assert!(server.await.unwrap_err().is_cancelled());
    assert!(!path.exists(), "it is gone with its daemon");
}

#[tokio::test]
async fn a_command_takes_its_operator_along_and_a_reason_has_a_bound() {
    let (_folder, path) = folder();
    tokio::spawn(serve(open(&path, None).await.unwrap(), shown(), requests()));
    let request = |reason: &str| {
        let operation = Operation {
            operation: CommandKind::Pause,
            target: Target::Service("api".to_owned()),
            seconds: Some(60),
            reason: Some(reason.to_owned()),
        };
        let mut line = serde_json::to_vec(&Request::Operate(operation)).unwrap();
        line.push(b'\n');
        line
    };
    let uid = rustix::process::geteuid().as_raw();
    let expected = Answer::Done(format!("Service(\"api\") by uid {uid}"));
    assert_eq!(ask(&path, &request("the disk is replaced")).await, expected);
    let Answer::Error(refusal) = ask(&path, &request(&"x".repeat(MAX_REASON + 1))).await else {
        panic!("a refusal")
    };
    assert_eq!(refusal.kind, RefusalKind::BadRequest);
}

#[tokio::test]
async fn commands_without_end_get_ten_turns_a_second_together() {
    let (_folder, path) = folder();
    tokio::spawn(serve(open(&path, None).await.unwrap(), shown(), requests()));
    let begun = std::time::Instant::now();
    let request = b"{\"command\":\"operate\",\"operation\":\"resume\",\"target\":\"all\"}\n";
    for _ in 0..4 {
        assert!(matches!(ask(&path, request).await, Answer::Done(_)));
    }
    assert!(begun.elapsed() >= 3 * COMMAND_REST, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_group_is_admitted_and_one_that_does_not_exist_is_not() {
    let (_folder, path) = folder();
    let own = rustix::process::getegid().as_raw();
    let group = if own == 0 { "root" } else { return };
    let socket = open(&path, Some(group)).await.unwrap();
    let file = fs::metadata(&path).unwrap();
    assert_eq!((file.permissions().mode() & 0o777, file.gid(), socket.group), (0o660, 0, Some(0)));
    drop(socket);
    let socket = open(&path, Some("no-such-group")).await.unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(socket.group, None);
}

#[tokio::test(start_paused = true)]
async fn idle_clients_do_not_keep_others_out_for_long() {
    let (_folder, path) = folder();
    tokio::spawn(serve(open(&path, None).await.unwrap(), shown(), requests()));
    let idle: Vec<Client> = (0..2 * CLIENTS).map(|_| Client::connect(&path).unwrap()).collect();
    let answer = ask(&path, b"{\"command\":\"incidents\"}\n").await;
    assert_eq!(answer, Answer::Incidents(Vec::new()));
    drop(idle);
}

#[tokio::test]
async fn a_dead_daemons_socket_is_replaced_and_a_living_ones_is_not() {
    let (folder, path) = folder();
    fs::create_dir(path.parent().unwrap()).unwrap();
    drop(StdListener::bind(&path).unwrap());
    assert!(path.exists(), "what a killed daemon leaves");
    let first = open(&path, None).await.unwrap();
    let error = open(&path, None).await.unwrap_err();
    assert!(matches!(error, ControlError::InUse { .. }), "{error}");
    drop(first);

    fs::write(&path, "precious").unwrap();
    let error = open(&path, None).await.unwrap_err();
    assert!(matches!(error, ControlError::NotASocket { .. }), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");

    let nowhere = folder.path().join("a/b/c/control.sock");
    assert!(matches!(open(&nowhere, None).await.unwrap_err(), ControlError::Other { .. }));
}
