//! Foreign texts: no output has a secret of the configuration, and none has a terminal obey them.
use std::sync::Once;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hostprobe::{
    clock::Timestamp,
    emit::{Emitter, MAX_LINE, Name, Names, Origin},
    escape::{escaped, escaped_json},
    fact::{
        Account, Actor, Ancestor, Cgroup, CrashFrame, CrashSite, ExitStatus, Fact, FaultContext, Incident,
        IncidentId, Membership, Phase, Process, ProcessExit, ProcessKey, Sender, ServiceId, ServiceState,
        Severity, Source, Timing, Verdict,
    },
    redact::{arguments, redact, remember},
};
use hostprobe_fuzz::is_one_plain_line;

/// The secrets of the configuration. An input has a byte from 1 on in their places, see [`with_secrets`].
const SECRETS: [&str; 4] = ["hunter2-Correct", "pä ss%w\"ord/&", "Ab1$", "0123456789abcdef"];

pub fn fuzz(input: &[u8]) {
    static REMEMBERED: Once = Once::new();
    REMEMBERED.call_once(|| remember(SECRETS.map(str::to_owned)));

    let text = with_secrets(input);
    is_free_of_secrets(&redact(&text));
    is_free_of_secrets(&arguments(text.split('\0')));
    is_shown(&text);
    is_published(&text);
}

/// The text of an input. Some control characters stand for a secret, plain or encoded.
fn with_secrets(input: &[u8]) -> String {
    let mut text = String::new();
    for char in String::from_utf8_lossy(input).chars() {
        let number = u32::from(char);
        let secret = SECRETS[number as usize % SECRETS.len()];
        match number {
            0x01..=0x04 => text.push_str(secret),
            0x05..=0x07 => text.extend(secret.bytes().map(|byte| format!("%{byte:02X}"))),
            0x0e..=0x11 => text.push_str(&STANDARD.encode(format!("user:{secret}"))),
            0x12..=0x15 => text.push_str(serde_json::json!(secret).to_string().trim_matches('"')),
            0x16..=0x19 => text.extend(secret.bytes().map(|byte| format!("{byte:02x}"))),
            _ => text.push(char),
        }
    }
    text
}

/// A shorter secret is hidden only as a word of its own.
fn is_free_of_secrets(text: &str) {
    for secret in SECRETS.iter().filter(|secret| secret.len() >= 8) {
        assert!(!text.contains(secret), "{text:?} has {secret:?}");
        let json = serde_json::json!(secret).to_string();
        assert!(!text.contains(json.trim_matches('"')), "{text:?} has {json}");
        let percent: String = secret.bytes().map(|byte| format!("%{byte:02X}")).collect();
        assert!(!text.contains(&percent), "{text:?} has {percent}");
        let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        assert!(!text.contains(&hex), "{text:?} has {hex}");
        let whole = STANDARD.encode(format!("user:{secret}"));
        assert!(!text.contains(&whole), "{text:?} has {whole}");
    }
}

/// The two ways to a terminal keep the text and have none of its commands.
fn is_shown(text: &str) {
    assert!(is_one_plain_line(&escaped(text)), "{text:?}");
    let mut json = serde_json::to_vec(text).expect("a string is JSON");
    escaped_json(&mut json);
    let shown = std::str::from_utf8(&json).expect("JSON is UTF-8");
    assert!(is_one_plain_line(shown), "{shown:?}");
    assert_eq!(serde_json::from_str::<String>(shown).expect("it stays JSON"), text);
}

/// The events that quote the text are lines of the stream.
fn is_published(text: &str) {
    let origin = Origin {
        host_name: "db-1".to_owned(),
        boot_id: "0ddba11e".to_owned(),
        ephemeral_id: "c0ffee00".to_owned(),
    };
    let names = Names::new([Name { service: "api".to_owned(), unit: None }]);
    let mut emitter = Emitter::new(origin, names, Vec::new());
    let api = ServiceId(0);
    let exit = Fact::ProcessExit(exit_of(text), Some(Membership { service: api, main: true }));
    let state = Fact::ServiceState(api, ServiceState::Down, ServiceState::Healthy, text.to_owned());
    let incident = Fact::Incident(Phase::Open, incident_of(text));
    for fact in [exit, state, incident, Fact::AgentStop(text.to_owned())] {
        emitter.publish(&fact, Timestamp::from_nanos(1));
        let record = emitter.take_records().pop().expect("it was published");
        let mut line = serde_json::to_vec(&record).expect("a record is JSON");
        escaped_json(&mut line);
        assert!(line.len() < MAX_LINE, "{} bytes", line.len());
        let line = std::str::from_utf8(&line).expect("JSON is UTF-8");
        assert!(is_one_plain_line(line), "{line:?}");
        is_free_of_secrets(line);
    }
}

/// The end of a process that chose this text for all that it may choose.
fn exit_of(text: &str) -> ProcessExit {
    let key = ProcessKey { pid: 4242, start: Timestamp::from_nanos(0) };
    ProcessExit {
        at: Timestamp::from_nanos(1),
        source: Source::Ebpf,
        process: Process {
            name: text.to_owned(),
            executable: Some(text.to_owned()),
            command_line: Some(text.to_owned()),
            cgroup: Some(Cgroup { id: 1, path: text.to_owned() }),
            container_id: Some(text.to_owned()),
            ..Process::unknown(key, 1)
        },
        status: ExitStatus::Signal { number: 9, core_dumped: false },
        sender: Some(Sender::Process {
            pid: 7,
            name: text.to_owned(),
            user_id: 0,
            unit: Some(text.to_owned()),
            terminal: false,
        }),
        sent_signal: Some(9),
        sender_service: None,
        oom: false,
        max_rss_bytes: 0,
        namespace_end: None,
        left_processes: false,
        crash: Some(Box::new(crash_of(text))),
        actor: Some(Box::new(actor_of(text))),
    }
}

/// A crash in a program that chose the names of its parts.
fn crash_of(text: &str) -> CrashSite {
    let frame = CrashFrame {
        address: Some(0x1000),
        offset: None,
        build_id: Some(text.to_owned()),
        module: Some(text.to_owned()),
        symbol: Some(text.to_owned()),
        line: Some(text.to_owned()),
    };
    CrashSite {
        signal: 11,
        code: 1,
        is_raised: false,
        address: Some(0),
        access: None,
        stack_overflow: false,
        stack: vec![frame; 3],
        runtime: Some(text.to_owned()),
        core: Some(text.to_owned()),
    }
}

/// A caller that chose its own name and arguments, and those of what started it.
fn actor_of(text: &str) -> Actor {
    let account = Account { id: 1000, name: Some(text.to_owned()) };
    let ancestor = Ancestor { pid: 6, name: text.to_owned(), command_line: Some(text.to_owned()) };
    Actor {
        at: Timestamp::from_nanos(1),
        pid: 7,
        name: text.to_owned(),
        command_line: Some(text.to_owned()),
        user: account.clone(),
        login: Some(account),
        terminal: Some(text.to_owned()),
        unit: Some(text.to_owned()),
        ancestors: vec![ancestor; 3],
        fingerprint: 0,
    }
}

/// An incident that is explained with the text.
fn incident_of(text: &str) -> Incident {
    let api = ServiceId(0);
    Incident {
        id: IncidentId::new(1),
        service: api,
        verdict: Verdict::Crashed,
        confidence: 1.0,
        summary: text.to_owned(),
        severity: Severity::Critical,
        cause: api,
        evidence: Vec::new(),
        held: Vec::new(),
        since: Timestamp::from_nanos(1),
        timing: Timing::default(),
        attempts: 0,
        snapshot: None,
        context: FaultContext {
            logs: vec![text.to_owned()],
            changes: vec![text.to_owned()],
            crash: Some(Box::new(crash_of(text))),
            actor: Some(Box::new(actor_of(text))),
            ..FaultContext::default()
        },
        drill: Some(text.to_owned()),
        host: None,
        earlier: Default::default(),
    }
}
