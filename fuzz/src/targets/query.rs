//! What a request over HTTP brings along: its parameters (`q`), and its token (`t`, one value of the header a line).
use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hostprobe::{escape::escaped, serve::fuzz};
use hostprobe_fuzz::is_one_plain_line;

const LONGEST: Duration = Duration::from_secs(400 * 24 * 3600);

pub fn fuzz(input: &[u8]) {
    match input.split_first() {
        Some((b'q', query)) => ask(query),
        Some((b't', values)) => bring(values),
        Some(_) | None => {}
    }
}

/// A period within its bounds, a name that is plain, or a short sentence.
fn ask(query: &[u8]) {
    let uri = format!("/api/v1/report?{}", String::from_utf8_lossy(query));
    match fuzz::query(&uri) {
        None => {}
        Some(Ok((since, service))) => {
            assert!(since.is_none_or(|since| !since.is_zero() && since <= LONGEST), "{since:?}");
            let is_plain =
                |name: &str| (1..=128).contains(&name.chars().count()) && !name.contains(char::is_control);
            assert!(service.as_deref().is_none_or(is_plain), "{service:?}");
        }
        Some(Err(why)) => {
            assert!(is_one_plain_line(&escaped(&why)), "{why:?}");
            // A query has at most 2048 bytes, of which one may become an escape of ten characters.
            assert!(!why.is_empty() && why.len() < 32_768, "{} bytes", why.len());
        }
    }
}

/// A token is what one value has, as it is or in Base64.
fn bring(values: &[u8]) {
    let values: Vec<&[u8]> = values.split(|byte| *byte == b'\n').collect();
    let Some(token) = fuzz::token(&values) else { return };
    let [value] = values.as_slice() else { panic!("{values:?} are one token") };
    let has = |part: &[u8]| part.is_empty() || value.windows(part.len()).any(|window| window == part);
    let text = str::from_utf8(value).expect("it was read as text");
    let decoded = text.split_once(' ').and_then(|(_, login)| STANDARD.decode(login.trim()).ok());
    assert!(has(&token) || decoded.is_some_and(|login| login.ends_with(&token)), "{value:?}: {token:?}");
}
