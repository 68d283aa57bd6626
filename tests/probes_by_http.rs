//! HTTP requests of probes, and the ways to a server: methods, headers, tokens, JSON, redirects, versions, Unix sockets, and
//! both addresses of `localhost`.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener},
    },
    process::Command,
    thread,
    time::Duration,
};

use hostprobe_tests::{
    http::free_port,
    incident_events::{is, text, wait_until_healthy},
    lab::probed::start,
    network::{self, Firewall},
    parts::{nginx, require_root},
    process::{Running, until},
    protocols::{Case, Reported, Server, run},
};
use rustix::process::Signal;
use tempfile::TempDir;

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

const FOREGROUND: &str = "daemon off; master_process off; error_log stderr notice;";

const LOCATIONS: &str = r#"
    location = /post { if ($request_method != POST) { return 405; } return 200; }
    location = /key { if ($http_x_key != "k3y") { return 403; } return 200; }
    location = /bearer { if ($http_authorization != "Bearer t0ken-9") { return 401; } return 200; }
    location = /basic { if ($http_authorization != "Basic dTpwNHNz") { return 401; } return 200; }
    location = /host { if ($host != "api.example") { return 421; } return 200; }
    location = /json { return 200 '{"status":"healthy","checks":[{"ms":5}]}'; }
    location = /degraded { return 200 '{"status":"degraded"}'; }
    location = /old { return 302 /json; }
    location = /around { return 302 /around; }
    location = /away { return 302 http://localhost:PORT/bearer; }
    location = / { return 200 ok; }
"#;

#[test]
fn http_requests() {
    if !require_root() {
        return;
    }
    let folder = TempDir::new().expect("a folder");
    let [port, h2c] = [(); 2].map(|()| free_port());
    let socket = folder.path().join("nginx.sock");
    let token = folder.path().join("token");
    fs::write(&token, "t0ken-9\n").expect("the folder can be written");
    let locations = LOCATIONS.replace("PORT", &port.to_string());
    let server = format!(
        "listen 127.0.0.1:{port}; listen unix:{}; {locations} }} server {{ listen 127.0.0.1:{h2c} http2; {locations}",
        socket.display()
    );
    let Some(command) = nginx(folder.path(), "web", FOREGROUND, &server) else { return };
    let main = Running::start(Command::new(&command[0]).args(&command[1..]), Signal::QUIT);
    until("nginx listens", LONG, || std::net::TcpStream::connect(("127.0.0.1", h2c)).ok());
    let name = format!("hostprobe-test-{port}");
    let _abstract = serve_abstract(&name);
    let at = |path: &str, more: &str| format!("http = \"http://127.0.0.1:{port}{path}\"\n{more}");
    let host = |host: &str| format!("headers = {{ Host = \"{host}\" }}");
    let json =
        |value: &str| format!("expect = {{ json = {{ \"/status\" = \"{value}\", \"/checks/0/ms\" = 5 }} }}");
    let token_file = format!("token_file = {token:?}");
    let cases = [
        Case {
            state: "takes POST, `method = \"POST\"`",
            probe: at("/post", "method = \"POST\"\nbody = \"{}\""),
            reported: Reported::Healthy,
        },
        Case {
            state: "the same, GET",
            probe: at("/post", ""),
            reported: Reported::Held("rejected", "got 405"),
        },
        Case {
            state: "asks for a header, and gets it",
            probe: at("/key", "headers = { X-Key = \"k3y\" }"),
            reported: Reported::Healthy,
        },
        Case {
            state: "asks for a header, and gets another",
            probe: at("/key", "headers = { X-Key = \"no\" }"),
            reported: Reported::Held("auth", "got 403"),
        },
        Case {
            state: "asks for a token, `token_file`",
            probe: at("/bearer", &token_file),
            reported: Reported::Healthy,
        },
        Case {
            state: "the same, without",
            probe: at("/bearer", ""),
            reported: Reported::Held("auth", "got 401"),
        },
        Case {
            state: "asks for a password, `http://user:password@…`",
            probe: format!("http = \"http://u:p4ss@127.0.0.1:{port}/basic\""),
            reported: Reported::Healthy,
        },
        Case {
            state: "is for one host name, `headers = { Host = … }`",
            probe: at("/host", &host("api.example")),
            reported: Reported::Healthy,
        },
        Case {
            state: "the same, another name",
            probe: at("/host", ""),
            reported: Reported::Held("rejected", "got 421"),
        },
        Case {
            state: "answers the expected JSON",
            probe: at("/json", &json("healthy")),
            reported: Reported::Healthy,
        },
        Case {
            state: "answers other JSON, and always has",
            probe: at("/degraded", "expect = { json = { status = \"healthy\" } }"),
            reported: Reported::Held(
                "body",
                "expected \"healthy\" at \"/status\" of the JSON body, got \"degraded\"",
            ),
        },
        Case {
            state: "redirects, `redirects = true`",
            probe: at("/old", &format!("redirects = true\n{}", json("healthy"))),
            reported: Reported::Healthy,
        },
        Case {
            state: "redirects in a circle",
            probe: at("/around", "redirects = true"),
            reported: Reported::Held("rejected", "redirects more than 10 times"),
        },
        Case {
            state: "redirects to another server, which does not get the token",
            probe: at("/away", &format!("redirects = true\n{token_file}")),
            reported: Reported::Held("auth", "got 401"),
        },
        Case {
            state: "HTTP/2 by prior knowledge, `http_version = \"2\"`",
            probe: format!(
                "http = \"http://127.0.0.1:{h2c}/json\"\nhttp_version = \"2\"\n{}",
                json("healthy")
            ),
            reported: Reported::Healthy,
        },
        Case {
            state: "the same, with a header and its own host",
            probe: format!(
                "http = \"http://127.0.0.1:{h2c}/host\"\nhttp_version = \"2\"\n{}",
                host("api.example")
            ),
            reported: Reported::Healthy,
        },
        Case {
            state: "over its Unix socket",
            probe: format!(
                "http = \"http+unix://{}/json\"",
                socket.display().to_string().replace('/', "%2F")
            ),
            reported: Reported::Healthy,
        },
        Case {
            state: "over an abstract socket",
            probe: format!("http = \"http+unix://%40{name}/\"\nexpect = {{ body_contains = \"abstract\" }}"),
            reported: Reported::Healthy,
        },
        Case {
            state: "over a socket that is not there",
            probe: "http = \"http+unix://%2Fnonexistent%2Fapp.sock/\"".to_owned(),
            reported: Reported::Held("refused", "nothing listens there"),
        },
    ];
    run(Server { title: "HTTP requests", pid: main.pid() }, &cases, &[]);
}

/// Answers on an abstract socket until the process ends.
fn serve_abstract(name: &str) -> thread::JoinHandle<()> {
    let address = SocketAddr::from_abstract_name(name).expect("a name");
    let listener = UnixListener::bind_addr(&address).expect("the name is free");
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nabstract");
        }
    })
}

#[test]
fn localhost_is_well_at_either_address_also_while_the_other_one_is_silent() {
    if !require_root() || !Firewall::is_there() {
        return;
    }
    network::in_its_own(|| {
        let folder = TempDir::new().expect("a folder");
        let port = free_port();
        let Some(command) = nginx(
            folder.path(),
            "six",
            FOREGROUND,
            &format!("listen [::1]:{port}; location / {{ return 200 ok; }}"),
        ) else {
            return;
        };
        let _server = Running::start(Command::new(&command[0]).args(&command[1..]), Signal::QUIT);
        until("nginx listens", LONG, || std::net::TcpStream::connect(("::1", port)).ok());
        // IPv4 drops what is sent to the port.
        let _silent = Firewall::with_target(port, &["DROP"]);
        let times = "interval = \"200ms\"\ntimeout = \"1s\"\nfailures = 3";
        let probe = |name: &str, target: &str| {
            format!("[[service]]\nname = \"{name}\"\n[[service.probe]]\n{target}\n{times}\n")
        };
        let nowhere = free_port();
        let mut daemon = start(
            &[
                probe("tcp", &format!("tcp = \"localhost:{port}\"")),
                probe("http", &format!("http = \"http://localhost:{port}/\"")),
                probe("none", &format!("tcp = \"localhost:{nowhere}\"")),
            ]
            .concat(),
        );
        wait_until_healthy(&daemon, "tcp");
        wait_until_healthy(&daemon, "http");
        let fail = daemon.wait_for(|event| is(event, "probe.fail", "none"), LONG);
        assert_eq!(text(&fail, "probe.error"), "refused", "{fail:#}");
        assert_eq!(
            daemon.count(|event| is(event, "probe.fail", "tcp") || is(event, "probe.fail", "http")),
            0
        );
        daemon.stop();
    });
}
