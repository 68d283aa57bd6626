//! The dashboard's files, and answers about the past.

use super::*;

const BROWSER: &str = "localhost\r\nAccept: text/html,application/xhtml+xml,*/*;q=0.8";

#[tokio::test]
async fn browsers_get_a_page_and_everything_else_a_list() {
    let served = Served::start(View::default()).await;
    for host in ["localhost", "localhost\r\nAccept: */*"] {
        let (head, body) = served.ask("/", host).await;
        assert!(head.contains("text/plain") && body.starts_with("hostprobe\n\n/health\n"), "{head}\n{body}");
    }
    let (head, body) = served.ask("/", BROWSER).await;
    assert!(head.contains("text/html") && body.starts_with("<!doctype html>"), "{head}");
    let header = |name: &str| {
        let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}: ")));
        line.unwrap_or_else(|| panic!("{name} is not in {head}")).split_once(": ").unwrap().1.to_owned()
    };
    let policy = header("content-security-policy");
    for part in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
    assert_eq!((&*header("x-frame-options"), &*header("referrer-policy")), ("DENY", "no-referrer"));
    assert_eq!((&*header("x-content-type-options"), &*header("vary")), ("nosniff", "Accept"));
    assert_eq!(header("cache-control"), "no-cache");
    let (head, body) = served.ask("/", &format!("{BROWSER}\r\nIf-None-Match: {}", header("etag"))).await;
    assert!(head.starts_with("HTTP/1.1 304") && body.is_empty(), "{head}");
    let (head, _) = served.ask("/", "evil.example\r\nAccept: text/html").await;
    assert!(head.starts_with("HTTP/1.1 421"), "{head}");
}

#[tokio::test]
async fn each_file_that_the_page_names_is_served() {
    let served = Served::start(View::default()).await;
    let (_, page) = served.ask("/", BROWSER).await;
    let named: Vec<&str> = page.split('"').filter(|part| part.starts_with("/dashboard/")).collect();
    assert_eq!(named.len(), 3, "{named:?}");
    for (path, kind) in named.into_iter().zip(["text/css", "image/svg+xml", "text/javascript"]) {
        let (head, body) = served.ask(path, "localhost").await;
        assert!(
            head.starts_with("HTTP/1.1 200") && head.contains(kind) && !body.is_empty(),
            "{path}: {head}"
        );
    }
    for path in ["/dashboard/", "/dashboard/../serve.rs", "/dashboard/none.js", "/dashboard/%2e%2e%2fx"] {
        assert!(served.ask(path, "localhost").await.0.starts_with("HTTP/1.1 404"), "{path}");
    }
}

#[tokio::test]
async fn questions_about_the_past_are_bounded_and_refused_in_a_sentence() {
    let served = Served::start(View::default()).await;
    let long = "x".repeat(2100);
    for (path, code, word) in [
        ("/api/v1/incidents/7", "404", "there is no incident \"7\""),
        ("/api/v1/incidents/%1b%5b2J", "404", "there is no incident"),
        (&*format!("/api/v1/incidents/{long}"), "404", "at most 64 bytes"),
        ("/api/v1/incidents?since=x", "400", "expected a duration such as"),
        ("/api/v1/report?since=0s", "400", "at most 400d"),
        ("/api/v1/report?dance=1", "400", "unknown parameter \"dance\""),
        (&*format!("/api/v1/report?service={long}"), "400", "at most 2048 bytes"),
        ("/api/v1/uptime?since=24h", "400", "which service?"),
        ("/api/v1/report", "503", "without a state directory"),
        ("/api/v1/uptime?service=api", "503", "without a state directory"),
    ] {
        let (head, body) = served.ask(path, "localhost").await;
        assert!(
            head.starts_with(&format!("HTTP/1.1 {code}")) && body.contains(word),
            "{path}: {head}\n{body}"
        );
        assert!(
            body.ends_with('\n') && !body.trim_end().contains(|char: char| char.is_control()),
            "{body:?}"
        );
    }
    assert_eq!(served.json("/api/v1/incidents?since=30d&service=api").await.1, serde_json::json!([]));
}
