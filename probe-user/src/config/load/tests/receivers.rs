//! Receivers of alerts: their addresses, their options, their secrets.

use super::*;

#[test]
fn a_receiver_has_one_address_and_the_options_of_its_kind() {
    for (lines, expected) in [
        (
            "webhook = \"http://h\"\nformat = \"slack\"",
            "3:10: found \"slack\"; expected \"json\" or \"alertmanager\"",
        ),
        (
            "slack = \"https://h/x\"\nteams = \"https://h/y\"",
            "3:9: a receiver has both `slack` and `teams`; expected an [[alert]] for each",
        ),
        (
            "slack = \"https://h/x\"\nchat = \"1\"",
            "3:8: `chat` beside `slack`; expected it beside `telegram`",
        ),
        (
            "discord = \"http://discord.example/api/webhooks/1/x\"",
            "2:11: a secret would be sent without TLS; expected a webhook such as \"https://discord.com/api/webhooks/123/${DISCORD_TOKEN}\"",
        ),
        (
            "ntfy = \"https://ntfy.sh/\"",
            "2:8: an address without a topic; expected the address of a topic such as \"https://ntfy.sh/topic\"",
        ),
        (
            "pagerduty = \"https://events.pagerduty.com/v2/enqueue\"",
            "1:1: `pagerduty` without a key; expected `token = \"${PAGERDUTY_KEY}\"` or `token_file`",
        ),
        (
            "telegram = \"https://api.telegram.org\"\ntoken = \"${PASSWORD}\"",
            "1:1: `telegram` without a chat; expected `chat = \"-100…\"` or the like",
        ),
        (
            "slack = \"https://slack.com/api\"\ntoken = \"${PASSWORD}\"",
            "1:1: `slack` with a token and without a channel; expected `channel = \"C…\"` or the like",
        ),
        (
            "email = \"smtp://mail.example\"\nfrom = \"a@b.example\"",
            "1:1: `email` without an addressee; expected `to = [\"oncall@example.org\"]` or the like",
        ),
        (
            "email = \"smtp://mail.example\"\nfrom = \"nobody\"\nto = [\"a@b.example\"]",
            "3:8: a wrong mail address; expected a mail address such as \"oncall@example.org\" or \"On call <oncall@example.org>\"",
        ),
        (
            "email = \"smtp://u:${PASSWORD}@mail.example\"\nfrom = \"a@b.example\"\nto = [\"a@b.example\"]\nstarttls = false",
            "5:12: the password would be sent without TLS; expected `starttls = true`, or an address without a user",
        ),
        (
            "webhook = \"http://h/\"\ntls = { ca_file = \"/x\" }",
            "3:7: `tls` beside an address without TLS; expected an https:// address",
        ),
        (
            "webhook = \"https://h/\"\nheaders = { Webhook-Id = \"1\" }",
            "3:26: hostprobe sets the header `Webhook-Id` itself; expected another one",
        ),
        (
            "webhook = \"https://h/\"\ntoken = \"${PASSWORD}\"\nheaders = { Authorization = \"x\" }",
            "3:9: both a token and the header `Authorization`; expected one of them",
        ),
        (
            "webhook = \"https://h/\"\nsigning_key = \"${NOWHERE}\"",
            "3:15: the environment variable NOWHERE is not set or empty; expected it to be set for the daemon",
        ),
        ("webhook = \"https://h/\"\nafter = \"8d\"", "3:9: `after` is 8d; expected from 0s to 7d"),
        ("webhook = \"https://h/\"\nremind = \"5s\"", "3:10: `remind` is 5s; expected from 10s to 30d"),
        (
            "name = \"on call\"\nwebhook = \"https://h/\"",
            "2:8: found \"on call\"; expected a name of 1 to 64 letters (A-Z, a-z), digits, dots, hyphens and underscores",
        ),
    ] {
        refused(&format!("[[alert]]\n{lines}"), &[expected]);
    }
    let two = "[[alert]]\nname = \"a\"\nwebhook = \"https://h/1\"\n[[alert]]\nname = \"a\"\nwebhook = \"https://h/2\"";
    let errors = parse(two).unwrap_err().to_string();
    assert!(errors.contains("another receiver is named \"a\" already"), "{errors}");
    refused(
        "[heartbeat]\ninterval = \"60s\"",
        &["1:1: a heartbeat without an address; expected `url = \"https://…\"`"],
    );
    refused(
        "[heartbeat]\nurl = \"https://h/\"\ninterval = \"25h\"",
        &["3:12: `interval` is 25h; expected from 1s to 24h"],
    );
}

#[test]
fn the_address_that_alerts_link_to_has_no_user_and_is_that_of_the_listener_if_not_given() {
    let of = |text: &str| parse(text).unwrap().public_url;
    assert_eq!(of("[http]\nlisten = \"127.0.0.1:9464\""), None);
    let given = of("[http]\npublic_url = \"https://db-1.example/hostprobe\"");
    assert_eq!(given.as_deref(), Some("https://db-1.example/hostprobe"));
    for wrong in
        ["db-1.example", "ftp://db-1.example/", "https://u:s3cret@db-1.example/", "https://u@db-1.example/"]
    {
        let errors = parse(&format!("[http]\npublic_url = \"{wrong}\"")).unwrap_err().to_string();
        assert!(
            errors.contains("2:14: a wrong address; expected an http or https address without a user"),
            "{errors}"
        );
        assert!(!errors.contains("s3cret"), "{errors}");
    }
}

#[test]
fn a_mail_server_of_this_host_needs_no_tls_and_any_other_does() {
    let starttls = |server: &str| {
        let text = format!("[[alert]]\nemail = \"{server}\"\nfrom = \"a@b.example\"\nto = [\"c@b.example\"]");
        parse(&text).unwrap().alerts[0].mail.as_ref().unwrap().starttls
    };
    assert!(starttls("smtp://mail.example") && starttls("smtp://u:${PASSWORD}@mail.example:25"));
    assert!(
        !starttls("smtp://127.0.0.1:25")
            && !starttls("smtp://localhost")
            && !starttls("smtps://mail.example")
    );
}

#[test]
fn no_secret_of_a_receiver_is_printed() {
    let text = "[[alert]]\nslack = \"https://slack.com/api\"\ntoken = \"xoxb-T0KEN-1\"\nchannel = \"C1\"\n\
                [[alert]]\nwebhook = \"https://h/\"\nsigning_key = \"s1gn1ng-k3y\"\nheaders = { X-Api-Key = \"h3ader-s3cret\" }\n\
                [[alert]]\nteams = \"https://x.example/workflows/0123456789abcdef/trigger?sig=S1G-secret\"\n\
                [heartbeat]\nurl = \"https://hc.example/0f0f0f0f-ping\"";
    let config = parse(text).unwrap();
    let secrets = config.secrets();
    for secret in
        ["xoxb-T0KEN-1", "s1gn1ng-k3y", "h3ader-s3cret", "0123456789abcdef", "S1G-secret", "0f0f0f0f-ping"]
    {
        assert!(secrets.iter().any(|it| it == secret), "{secret}: {secrets:?}");
    }
    let printed = format!("{config:?}");
    for secret in ["T0KEN", "k3y", "s3cret", "S1G"] {
        assert!(!printed.contains(secret), "{secret} in {printed}");
    }
}
