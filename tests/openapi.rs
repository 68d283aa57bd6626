//! What is served over HTTP, held against its description by a program that makes up requests.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use hostprobe_tests::{
    daemon::Daemon,
    http::{self, free_port},
    operator::Home,
    parts::{available, built, require_root},
    process::{kill, until},
    supervised::Supervised,
};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);

/// A package of PyPI.
const SCHEMATHESIS: &str = "schemathesis==4.32.5";

/// The program, which pip fetches once into the folder of the build. None where there is no Python for it.
fn schemathesis() -> Option<PathBuf> {
    let folder = built("hostprobe").with_file_name(SCHEMATHESIS.replace("==", "-"));
    let program = folder.join("bin/schemathesis");
    if !program.exists() {
        let there = quiet(Command::new("python3").args(["-c", "import venv, ensurepip"]));
        if !available(there, "the package python3-venv") {
            return None;
        }
        let _ = fs::remove_dir_all(&folder);
        assert!(
            quiet(Command::new("python3").args(["-m", "venv"]).arg(&folder)),
            "no environment can be made"
        );
        let pip = Command::new(folder.join("bin/pip")).args(["install", "--quiet", SCHEMATHESIS]).output();
        let pip = pip.expect("pip can be run");
        assert!(pip.status.success(), "{}", String::from_utf8_lossy(&pip.stderr));
    }
    Some(program)
}

fn quiet(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

#[test]
fn every_answer_is_as_the_description_says() {
    if !require_root() {
        return;
    }
    let Some(schemathesis) = schemathesis() else { return };
    let (home, service, port) = (Home::new(), Supervised::new(), free_port());
    let config =
        home.supervising(&service).replace("listen = \"\"", &format!("listen = \"127.0.0.1:{port}\""));
    let config = format!(
        "{config}\n[[service]]\nname = \"backup\"\n[[service.probe]]\nheartbeat = \"backup\"\nevery = \"24h\"\n"
    );
    let mut daemon = Daemon::start(&config, &[]);
    service.until_healthy(&daemon);
    // An incident, so that its answers have something to describe.
    kill(service.pid(&daemon));
    let incidents = || -> Value {
        let (_, body) = http::get(port, "/api/v1/incidents").expect("it is served");
        serde_json::from_str(&body).expect("JSON")
    };
    let all = until("the incident is over", PATIENCE, || {
        Some(incidents()).filter(|all| all[0]["open"] == Value::Bool(false))
    });
    let (status, body) = http::get(port, "/api/v1/openapi.json").expect("it is served");
    let served: Value = serde_json::from_str(&body).expect("JSON");
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
    let shipped: Value = serde_json::from_str(&fs::read_to_string(shipped).expect("a file")).expect("JSON");
    assert_eq!((status, &served), (200, &shipped));
    let printed = Command::new(built("hostprobe")).args(["schema", "http"]).output().expect("hostprobe runs");
    assert_eq!(serde_json::from_slice::<Value>(&printed.stdout).expect("JSON"), shipped);
    conforms(&served, port, "/api/v1/incidents/{id}", all[0]["id"].as_str().expect("an id"));
    conforms(&served, port, "/api/v1/uptime", &service.name);

    let output = Command::new(schemathesis)
        .current_dir(home.path(""))
        .args(["run", &format!("http://127.0.0.1:{port}/api/v1/openapi.json")])
        // The stream has no end.
        .args(["--exclude-path", "/events"])
        .args(["--checks", "all", "--max-examples", "20", "--seed", "1", "--no-color"])
        .args(["--request-timeout", "20", "--generation-database", "none"])
        .env("COLUMNS", "120")
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    println!(
        "{}",
        said.lines().rev().take(12).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
    );
    assert!(daemon.stop().success());
}

/// An answer that a made-up request hardly gets, for an id or a name that there is.
#[track_caller]
fn conforms(description: &Value, port: u16, path: &str, name: &str) {
    let asked =
        if path.contains('{') { path.replace("{id}", name) } else { format!("{path}?service={name}") };
    let (status, body) = http::get(port, &asked).expect("it is served");
    assert_eq!(status, 200, "{asked}: {body}");
    let operation =
        &description["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"];
    let mut schema = operation.clone();
    schema["components"] = description["components"].clone();
    let validator = jsonschema::draft202012::new(&schema).expect("a schema");
    let answer: Value = serde_json::from_str(&body).expect("JSON");
    let complaints: Vec<String> = validator.iter_errors(&answer).map(|error| error.to_string()).collect();
    assert!(complaints.is_empty(), "{asked}: {complaints:#?}\n{answer:#}");
}
