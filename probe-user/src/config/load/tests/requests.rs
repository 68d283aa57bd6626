//! TLS, sockets and HTTP requests of probes.

use super::*;
use crate::config::{HttpMethod, HttpVersion, TlsIdentity, TlsOptions};

fn probe(lines: &str) -> String {
    format!("[[service]]\nname = \"a\"\n[[service.probe]]\n{lines}")
}

fn read(lines: &str) -> crate::config::Probe {
    let config = parse(&probe(lines)).unwrap_or_else(|errors| panic!("{errors}\n{lines}"));
    config.services[0].probes[0].clone()
}

#[test]
fn tls_is_read_and_its_files_are_named() {
    let all = "http = \"https://h\"\ntls = { ca_file = \"/ca\", cert = \"/c\", key = \"/k\", server_name = \"n\", expires_within = \"14d\" }";
    let expected = TlsOptions {
        ca_file: Some("/ca".into()),
        identity: Some(TlsIdentity { cert: "/c".into(), key: "/k".into() }),
        server_name: Some("n".to_owned()),
        insecure: false,
        expires_within: Some(Duration::from_secs(14 * 86_400)),
    };
    assert_eq!(read(all).tls, Some(expected));
    let insecure = "redis = \"rediss://h\"\ntls = { insecure = true }";
    assert_eq!(
        warned(&probe(insecure)),
        ["5:20: with `insecure`, any server that answers is trusted: name its certificates by `ca_file`"]
    );
    for (lines, expected) in [
        (
            "http = \"https://h\"\ntls = { cert = \"/c\" }",
            "5:16: `cert` without `key`; expected the file of its private key",
        ),
        (
            "http = \"https://h\"\ntls = { ca_file = \"ca.pem\" }",
            "5:19: found \"ca.pem\"; expected the absolute path of a file that holds certificates in PEM",
        ),
        (
            "http = \"https://h\"\ntls = { server_name = \"a b\" }",
            "5:23: found \"a b\"; expected a host name or an IP address",
        ),
        (
            "http = \"https://h\"\ntls = { expires_within = \"1m\" }",
            "5:26: `expires_within` is 1m; expected from 1h to 3650d",
        ),
        (
            "http = \"http://h\"\ntls = {}",
            "5:7: `tls` beside an address without TLS; expected an https:// address",
        ),
        (
            "grpc = \"grpc://h\"\ntls = {}",
            "5:7: `tls` beside an address without TLS; expected a grpcs:// address",
        ),
        (
            "redis = \"redis://h\"\ntls = {}",
            "5:7: `tls` beside an address without TLS; expected a rediss:// address",
        ),
        (
            "postgres = \"postgres://u@h/d?sslmode=disable\"\ntls = {}",
            "5:7: `tls` beside an address without TLS; expected an address that does not turn TLS off",
        ),
        (
            "postgres = \"postgres://u@h/d?sslmode=verify-full\"\ntls = { insecure = true }",
            "5:7: `insecure` beside an address that asks to verify the certificate; expected one of them",
        ),
        (
            "tcp = \"h:1\"\ntls = {}",
            "5:7: `tls` in a tcp probe; expected it in http and grpc and redis and postgres and mysql probes only",
        ),
    ] {
        refused(&probe(lines), &[expected]);
    }
}

#[test]
fn addresses_with_tls_and_sockets_are_accepted() {
    for line in [
        "redis = \"rediss://:${PASSWORD}@h:6380/1\"",
        "redis = \"redis+unix:///run/redis.sock?db=1\"",
        "redis = \"redis+unix://@redis\"",
        "postgres = \"postgres://u@h/d?sslmode=verify-full&sslrootcert=/ca\"",
        "postgres = \"postgres:///d?host=/run/postgresql\"",
        "postgres = \"postgres://u@/d?host=@pg\"",
        "mysql = \"mysql://u@h/?ssl-mode=VERIFY_IDENTITY&ssl-ca=/ca\"",
        "mysql = \"mysql:///d?socket=/run/my.sock\"",
        "mysql = \"mysql://u@/?socket=@my\"",
        "http = \"http+unix://%2Frun%2Fa.sock/health\"",
        "http = \"http+unix://%40a/health\"",
    ] {
        assert_eq!(warned(&probe(line)), [""; 0], "{line}");
    }
    let socket = read("http = \"http+unix://%2Frun%2Fa.sock/health\"");
    assert_eq!(
        (socket.socket().as_deref(), socket.port(), socket.address()),
        (Some("/run/a.sock"), None, None)
    );
    for (line, expected) in [
        (
            "http = \"http+unix://run/health\"",
            "4:8: a wrong address: its host is no socket (a slash of its path is written as %2F); expected an address such as \"http://127.0.0.1:8080/health\"",
        ),
        (
            "postgres = \"postgres://u@h/d?sslmode=on\"",
            "4:12: a wrong PostgreSQL address: `sslmode` is disable, allow, prefer, require, verify-ca or verify-full; expected an address such as \"postgres://user@127.0.0.1/database\"",
        ),
        (
            "mysql = \"mysql://u@h/?ssl-mode=on\"",
            "4:9: a wrong MySQL address: invalid value for option `ssl-mode`; expected an address such as \"mysql://127.0.0.1:3306\"",
        ),
    ] {
        refused(&probe(line), &[expected]);
    }
}

#[test]
fn a_request_is_read_and_its_secrets_are_known() {
    let lines = "http = \"https://h\"\nmethod = \"POST\"\nbody = \"key=${PASSWORD}\"\nredirects = true\nhttp_version = \"2\"\n\
                 headers = { Host = \"api.example\", Authorization = \"Bearer ${PASSWORD}\" }\n\
                 expect = { json = { status = \"ok\", \"/checks/0\" = 1, \"a/b\" = true } }";
    let read = read(lines);
    let http = &read.http;
    assert_eq!((http.method, http.version, http.redirects), (HttpMethod::Post, HttpVersion::Http2, true));
    assert_eq!(http.body.as_ref().map(|body| body.expose()), Some("key=s3cret"));
    let headers: Vec<_> = http.headers.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
    assert_eq!(headers, [("Authorization", "Bearer s3cret"), ("Host", "api.example")]);
    let pointers: Vec<_> = http.expect_json.iter().map(|(pointer, _)| pointer.as_str()).collect();
    assert_eq!(pointers, ["/checks/0", "/a~1b", "/status"]);
    assert!(read.secrets().contains(&"s3cret".to_owned()));
    assert!(!format!("{read:?}").contains("s3cret"), "{read:?}");
    let basic =
        super::requests::read("http = \"http://h\"\nheaders = { Authorization = \"Basic dTpwYXNz\" }");
    assert!(basic.secrets().contains(&"pass".to_owned()));
}

#[test]
fn a_token_file_is_a_header_and_never_printed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "t0ken\n").unwrap();
    let line = format!("http = \"http://h\"\ntoken_file = {file:?}");
    let token = read(&line);
    assert_eq!(token.http.headers[0].1.expose(), "Bearer t0ken");
    assert!(token.secrets().contains(&"t0ken".to_owned()) && !format!("{token:?}").contains("t0ken"));
    let twice = format!("{line}\nheaders = {{ Authorization = \"Basic x\" }}");
    refused(
        &probe(&twice),
        &["5:14: both `token_file` and the header `Authorization`; expected one of them"],
    );
}

#[test]
fn a_request_that_cannot_be_sent_is_refused() {
    for (line, expected) in [
        (
            "method = \"get\"",
            "5:10: found \"get\"; expected \"GET\", \"HEAD\", \"OPTIONS\", \"POST\", \"PUT\", \"PATCH\" or \"DELETE\"",
        ),
        ("http_version = \"3\"", "5:16: found \"3\"; expected \"auto\", \"1.1\" or \"2\""),
        ("headers = { \"a b\" = \"x\" }", "5:21: a wrong header name; expected one such as \"X-Request-Id\""),
        (
            "headers = { Connection = \"x\" }",
            "5:26: the probe sets the header `Connection` itself; expected another one",
        ),
        ("headers = { X = \"a\\nb\" }", "5:17: a wrong value of the header `X`; expected visible characters"),
        (
            "body = \"${NOWHERE}\"\nmethod = \"PUT\"",
            "5:8: the environment variable NOWHERE is not set or empty; expected it to be set for the daemon",
        ),
    ] {
        refused(&probe(&format!("http = \"http://h\"\n{line}")), &[expected]);
    }
    let head = "http = \"http://h\"\nmethod = \"HEAD\"\nexpect = { body_contains = \"x\" }";
    refused(
        &probe(head),
        &[
            "5:10: the answer to HEAD has no body; expected another `method`, or neither `body_contains` nor `json`",
        ],
    );
    refused(
        &probe("redis = \"redis://h\"\nredirects = true"),
        &["5:13: `redirects` in a redis probe; expected it in http probes only"],
    );
}
