//! Webhooks over TLS: a server that demands a client certificate, headers of the user's own, and signatures that another
//! implementation verifies.

use std::{net::TcpStream, path::Path, process::Command, time::Duration};

use hostprobe_tests::{
    daemon::Daemon,
    http::free_port,
    incident_events::{is, text},
    operator::Home,
    parts::{Authority, Certificate, LOCALHOST, nginx, require_root, webhook_server},
    process::{Running, until},
};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

const SIGNING_KEY: &str = "whsec_aG9zdHByb2JlIHNpZ25zIGl0cyBhbGVydHM=";

/// An nginx that lets in who shows a certificate of this authority, and hands its requests on with the certificate's name.
fn demanding_nginx(
    folder: &Path,
    port: u16,
    upstream: u16,
    server: &Certificate,
    clients: &Authority,
) -> Option<Running> {
    let block = format!(
        "listen 127.0.0.1:{port} ssl; ssl_certificate {}; ssl_certificate_key {}; ssl_client_certificate {}; \
         ssl_verify_client on; location / {{ proxy_pass http://127.0.0.1:{upstream}; \
         proxy_set_header X-Client $ssl_client_s_dn; }}",
        server.pem.display(),
        server.key.display(),
        clients.pem().display()
    );
    let command = nginx(folder, "front", "daemon off; master_process off;", &block)?;
    let (program, arguments) = command.split_first().expect("a command has a program");
    let process = Running::start(Command::new(program).args(arguments), Signal::KILL);
    until("nginx listens", LONG, || TcpStream::connect(("127.0.0.1", port)).ok());
    Some(process)
}

fn requests(server: &Running) -> Vec<Value> {
    server.stdout.all().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn receiver(name: &str, port: u16, trust: &Authority, shown: Option<&Certificate>, further: &str) -> String {
    let shown = shown.map(|it| format!(", cert = {:?}, key = {:?}", it.pem, it.key)).unwrap_or_default();
    format!(
        "[[alert]]\nname = \"{name}\"\nwebhook = \"https://localhost:{port}/{name}\"\n\
         tls = {{ ca_file = {:?}{shown} }}\n{further}\n",
        trust.pem()
    )
}

#[test]
fn a_server_that_demands_a_certificate_gets_it_with_headers_and_a_signature_that_verifies() {
    if !require_root() {
        return;
    }
    let folder = TempDir::new().expect("a temporary folder");
    let Some(servers) = Authority::new(folder.path(), "servers") else { return };
    let (Some(clients), Some(strangers)) =
        (Authority::new(folder.path(), "clients"), Authority::new(folder.path(), "strangers"))
    else {
        return;
    };
    let (port, upstream) = (free_port(), free_port());
    let Some(webhook) = webhook_server(upstream, SIGNING_KEY) else { return };
    let server = servers.issue("localhost", LOCALHOST, 30);
    let Some(_front) = demanding_nginx(folder.path(), port, upstream, &server, &clients) else { return };
    let (known, stranger) = (clients.issue("db-1", LOCALHOST, 30), strangers.issue("db-2", LOCALHOST, 30));
    let options = format!(
        "signing_key = \"{SIGNING_KEY}\"\nheaders = {{ X-Team = \"platform\", X-Api-Key = \"k3y-of-team\" }}"
    );
    let config = [
        receiver("known", port, &servers, Some(&known), &options),
        receiver("other-key", port, &servers, Some(&known), "signing_key = \"another key\""),
        receiver("stranger", port, &servers, Some(&stranger), ""),
        receiver("nameless", port, &servers, None, ""),
        receiver("trustless", port, &strangers, Some(&known), ""),
    ];
    let closed = free_port();
    let service = format!(
        "[[service]]\nname = \"api\"\n[[service.probe]]\ntcp = \"127.0.0.1:{closed}\"\ninterval = \"200ms\"\n\
         failures = 1\n"
    );
    let home = Home::new();
    let mut daemon = Daemon::start(&home.config(&(config.concat() + &service)), &[]);
    daemon.ready();

    // The incident of a real fault.
    let opened = daemon.wait_for(|event| is(event, "incident.open", "api"), LONG);
    let get = |path: &str| requests(&webhook).into_iter().find(|it| it["path"] == path);
    for name in ["known", "other-key"] {
        daemon
            .wait_for(|event| is(event, "alert.send", "api") && text(event, "alert.receiver") == name, LONG);
    }
    let told = until("the alert arrives", LONG, || get("/known"));
    assert_eq!(told["body"]["incident"]["id"], text(&opened, "incident.id"));
    let headers = &told["headers"];
    for (name, value) in [
        ("x-client", "CN=db-1"),
        ("x-team", "platform"),
        ("x-api-key", "k3y-of-team"),
        ("content-type", "application/json"),
    ] {
        assert_eq!(headers[name], value, "{headers:#}");
    }
    assert_eq!(told["signed"], json!(true), "{headers:#}");
    let other = until("the alert arrives", LONG, || get("/other-key"));
    assert_eq!(other["signed"], json!(false), "another key signs otherwise");

    let printed = |name: &str| {
        let test = home.order(&["alert", "test", name]);
        (test.status.code(), String::from_utf8_lossy(&test.stdout).into_owned())
    };
    assert_eq!(printed("known"), (Some(0), "known: took the test alert and its end\n".to_owned()));
    for (name, why) in [("stranger", "400"), ("nameless", "400"), ("trustless", "certificate")] {
        let (code, said) = printed(name);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.starts_with(name) && said.contains(why), "{said}");
        assert!(get(&format!("/{name}")).is_none(), "the server let {name} in");
    }

    // A certificate that was renewed is shown with the next message.
    stranger.becomes(&known);
    assert_eq!(printed("stranger").0, Some(0));
    let refused = until("a refusal is reported", LONG, || {
        let fails =
            |event: &Value| is(event, "alert.fail", "api") && text(event, "alert.receiver") == "nameless";
        daemon.events().into_iter().find(|event| fails(event))
    });
    let all = format!("{refused}{}", daemon.log());
    assert!(!all.contains("k3y-of-team") && !all.contains("aG9zdHByb2JlIHNpZ25z"), "{all}");
    daemon.stop();
}
