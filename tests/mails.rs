//! Mails to a real mail server: their parts, their thread, and that no text breaks out of them.

use std::{
    io::{Read, Write},
    net::TcpListener,
    thread,
    time::Duration,
};

use hostprobe_tests::{
    daemon::Daemon,
    http::free_port,
    incident_events::{is, text},
    operator::Home,
    parts::{Authority, LOCALHOST, require, require_root, smtp_server},
    process::{Running, until},
};
use serde_json::Value;
use tempfile::TempDir;

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

/// It ends its line and begins headers of its own.
const HOST_NAME: &str = "db-1\\r\\nBcc: evil@example.org\\r\\n\\r\\nbody";

/// A server's error that is markup, a header and a control sequence.
const ERROR: &str = "-ERR <img src=x onerror=alert(1)> & \u{1b}[2J\u{202e}Bcc: evil@example.org\r\n";

/// Gives the daemon's namespace a name, and becomes what follows.
const NAMED: &str = "import os,socket,sys; socket.sethostname(sys.argv[1].encode().decode('unicode_escape')); \
                     os.execv(sys.argv[2], sys.argv[2:])";

/// A server that answers every client with the error.
fn hostile_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = listener.local_addr().expect("its address").port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            // A client that went away misses it.
            let _ = stream.write_all(ERROR.as_bytes());
        }
    });
    port
}

/// The mails that a server has got.
fn mails(server: &Running) -> Vec<Value> {
    server.stdout.all().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The values of a header of a mail.
fn header<'m>(mail: &'m Value, name: &str) -> Vec<&'m str> {
    let headers = mail["headers"].as_array().expect("a list");
    headers.iter().filter(|it| it[0] == name).filter_map(|it| it[1].as_str()).collect()
}

#[test]
fn a_mail_has_a_plain_and_an_html_part_and_no_text_breaks_out_of_them() {
    if !require_root() || !require("util-linux", "/usr/bin/unshare") {
        return;
    }
    let folder = TempDir::new().expect("a temporary folder");
    let Some(authority) = Authority::new(folder.path(), "mail-ca") else { return };
    let certificate = authority.issue("mail", LOCALHOST, 30);
    let port = free_port();
    let Some(server) = smtp_server(port, "starttls", &certificate, ("probe", "s3cret pw")) else { return };
    let home = Home::new();
    let config = home.config(&format!(
        "[[alert]]\nname = \"mail\"\nemail = \"smtp://probe:s3cret%20pw@localhost:{port}\"\n\
         from = \"hostprobe <hostprobe@example.org>\"\nto = [\"ops@example.org\"]\nstarttls = true\n\
         tls = {{ ca_file = {:?} }}\n\
         [[service]]\nname = \"cache\"\n[[service.probe]]\nredis = \"redis://127.0.0.1:{}\"\ninterval = \"200ms\"\n\
         failures = 1\n",
        authority.pem(),
        hostile_server()
    ));
    let under = ["/usr/bin/unshare", "--uts", "/usr/bin/python3", "-c", NAMED, HOST_NAME];
    let daemon = Daemon::start_under(&under, &config, &[]);
    let opened = daemon.wait_for(|event| is(event, "incident.open", "cache"), LONG);
    let name = text(&opened, "host.name");
    assert!(name.contains("\r\nBcc: evil"), "the host has that name: {name:?}");
    let mail = until("the mail arrives", LONG, || mails(&server).into_iter().next());

    assert_eq!((&mail["tls"], &mail["login"]), (&Value::from(true), &Value::from(true)), "{mail:#}");
    assert_eq!(mail["to"], serde_json::json!(["ops@example.org"]), "no further addressee");
    for (name, count) in [("Bcc", 0), ("Subject", 1), ("From", 1), ("To", 1), ("Message-ID", 1)] {
        assert_eq!(header(&mail, name).len(), count, "{name} in {mail:#}");
    }
    let subject = header(&mail, "Subject")[0];
    assert!(subject.starts_with("CRITICAL: cache on db-1"), "{subject:?}");
    assert!(!subject.contains(['\r', '\n']), "{subject:?}");
    assert_eq!(header(&mail, "Auto-Submitted"), ["auto-generated"]);

    let part = |kind: &str| mail["parts"][kind].as_str().unwrap_or_else(|| panic!("no {kind} in {mail:#}"));
    let (plain, html) = (part("text/plain"), part("text/html"));
    assert_eq!(mail["parts"].as_object().map(serde_json::Map::len), Some(2), "{mail:#}");
    let id = text(&opened, "incident.id");
    for part in [plain, html] {
        assert!(part.contains(&format!("hostprobe ack {id}")) && part.contains("onerror=alert(1)"), "{part}");
        assert!(!part.contains(['\u{1b}', '\u{202e}']), "{part:?}");
    }
    assert!(plain.contains("<img src=x onerror=alert(1)> &"), "{plain}");
    assert!(html.contains("&lt;img src=x onerror=alert(1)&gt; &amp;") && !html.contains("<img"), "{html}");
}
