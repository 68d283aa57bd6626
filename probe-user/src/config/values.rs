//! The small values of a configuration file: each parses its form and describes it in errors.

use std::{borrow::Cow, fmt, marker::PhantomData, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor, value::MapAccessDeserializer},
};

use super::spanned::Spanned;

/// A value that may be missing, with its place.
pub(super) type At<T> = Option<Spanned<T>>;

pub(super) trait Written: Sized {
    /// Its description with an example: completes "expected …".
    const EXPECTED: &'static str;

    /// Parses it; None if it has another form.
    fn read(text: &str) -> Option<Self>;

    /// What is wrong with a text that cannot be parsed, if that is more than its form: completes "found …".
    fn fault(_text: &str) -> Option<String> {
        None
    }

    /// The schema of its text. It accepts each text that can be parsed.
    fn schema() -> Schema;
}

/// The schema of a text that is one of a few words.
pub(super) fn words(words: &[&str]) -> Schema {
    json_schema!({ "type": "string", "enum": words })
}

/// The schema of a text that a regular expression matches as a whole.
pub(super) fn pattern(expression: &str) -> Schema {
    json_schema!({ "type": "string", "pattern": format!("^(?:{expression})$") })
}

/// A [`Written`] value as serde sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text<T>(pub(super) T);

impl<'de, T: Written> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<T>(PhantomData<T>);
        impl<T: Written> Visitor<'_> for Reader<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::EXPECTED)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
                T::read(text).ok_or_else(|| {
                    let found = T::fault(text).unwrap_or_else(|| quote(text));
                    E::custom(format_args!("found {found}, expected {}", T::EXPECTED))
                })
            }
        }
        deserializer.deserialize_str(Reader(PhantomData)).map(Text)
    }
}

impl<T: Written> JsonSchema for Text<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Text".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        T::schema()
    }
}

/// One [`Written`] value, or a list of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OneOrSeveral<T>(pub(super) Vec<T>);

impl<'de, T: Written> Deserialize<'de> for OneOrSeveral<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<T>(PhantomData<T>);
        impl<'de, T: Written> Visitor<'de> for Reader<T> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}, or a list of such", T::EXPECTED)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<T>, E> {
                Text::deserialize(de::value::StrDeserializer::new(text)).map(|Text(value)| vec![value])
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
                let mut values = Vec::new();
                while let Some(Text(value)) = list.next_element()? {
                    values.push(value);
                }
                Ok(values)
            }
        }
        deserializer.deserialize_any(Reader(PhantomData)).map(OneOrSeveral)
    }
}

impl<T: Written> JsonSchema for OneOrSeveral<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "OneOrSeveral".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [T::schema(), { "type": "array", "items": T::schema(), "minItems": 1 }] })
    }
}

/// A text for an error message: quoted, and left out if it is long or may be a URL with a password.
pub(super) fn quote(text: &str) -> String {
    if !is_harmless(text) {
        return "another text".to_owned();
    }
    // As a literal string of TOML, whose backslashes are not doubled, where it can be one.
    let is_literal = text.contains('\\') && !text.contains(|c: char| c == '\'' || c.is_control());
    if is_literal { format!("'{text}'") } else { format!("{text:?}") }
}

/// Whether a text is short and cannot be a URL with a password.
pub(super) fn is_harmless(text: &str) -> bool {
    !text.contains("://") && !text.contains('@') && text.len() <= 60
}

impl Written for Duration {
    const EXPECTED: &'static str = r#"a duration such as "250ms", "10s", "5m" or "1h""#;

    fn read(text: &str) -> Option<Self> {
        let (number, unit) = number_and_unit(text)?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        number.checked_mul(millis).map(Self::from_millis)
    }

    fn schema() -> Schema {
        pattern(DURATION)
    }
}

/// A duration as a regular expression; and one above zero.
const DURATION: &str = r"[0-9]+\s*(?:ms|s|m|h|d)";
const SOME_DURATION: &str = r"0*[1-9][0-9]*\s*(?:ms|s|m|h|d)";

/// The schema of a duration above zero.
pub(super) fn some_duration() -> Schema {
    pattern(SOME_DURATION)
}

/// A duration in the notation of the configuration, such as `30m`. The error says what is expected.
pub fn duration(text: &str) -> Result<Duration, String> {
    Duration::read(text).ok_or_else(|| format!("expected {}", Duration::EXPECTED))
}

/// A duration as a person would write it in the configuration.
pub(super) fn notation(duration: Duration) -> String {
    let millis = duration.as_millis();
    // A day or less is in hours.
    let of = |unit: u128, least: u128| millis.is_multiple_of(unit) && millis / unit >= least;
    match millis {
        0 => "0s".to_owned(),
        _ if of(86_400_000, 2) => format!("{}d", millis / 86_400_000),
        _ if of(3_600_000, 1) => format!("{}h", millis / 3_600_000),
        _ if of(60_000, 1) => format!("{}m", millis / 60_000),
        _ if of(1_000, 1) => format!("{}s", millis / 1_000),
        _ => format!("{millis}ms"),
    }
}

/// The number of restarts that are allowed within an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Budget {
    pub(super) count: u32,
    pub(super) window: Duration,
}

impl Written for Budget {
    const EXPECTED: &'static str = r#"a count and a duration such as "5 per 10m""#;

    fn read(text: &str) -> Option<Self> {
        let (count, window) = text.split_once(" per ")?;
        let (count, window) = (digits(count.trim())?.try_into().ok()?, Duration::read(window.trim())?);
        (count > 0 && window > Duration::ZERO).then_some(Self { count, window })
    }

    fn schema() -> Schema {
        pattern(&format!(r"\s*0*[1-9][0-9]*\s* per \s*{SOME_DURATION}\s*"))
    }
}

/// The waits between restarts: the first one and the longest one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Backoff {
    pub(super) first: Duration,
    pub(super) max: Duration,
}

impl Written for Backoff {
    const EXPECTED: &'static str = r#"the shortest and the longest wait such as "1s..5m""#;

    fn read(text: &str) -> Option<Self> {
        let (first, max) = text.split_once("..")?;
        let (first, max) = (Duration::read(first.trim())?, Duration::read(max.trim())?);
        (Duration::ZERO < first && first <= max).then_some(Self { first, max })
    }

    fn schema() -> Schema {
        pattern(&format!(r"\s*{SOME_DURATION}\s*\.\.\s*{SOME_DURATION}\s*"))
    }
}

/// A size as a regular expression.
pub(super) const SIZE: &str = r"[0-9]+\s*(?:B|KiB|MiB|GiB)";

/// A size in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);

impl Written for Size {
    const EXPECTED: &'static str = r#"a size such as "256KiB" or "1MiB""#;

    fn read(text: &str) -> Option<Self> {
        let (number, unit) = number_and_unit(text)?;
        let bytes = match unit {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return None,
        };
        number.checked_mul(bytes).map(Self)
    }

    fn schema() -> Schema {
        pattern(SIZE)
    }
}

/// A whole number of any size; its range is checked where its meaning is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Whole(pub(super) i64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Whole;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Whole, E> {
                Ok(Whole(number))
            }
        }
        deserializer.deserialize_i64(Reader)
    }
}

impl JsonSchema for Whole {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Whole".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer" })
    }
}

// A table, and only a table: serde's derived structs would also read an array by position. A doc comment would be a part
// of the schema.
#[derive(Clone, Debug, Default, JsonSchema)]
#[schemars(with = "T")]
pub(super) struct Table<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Table<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Reader<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_map(Reader(PhantomData)).map(Table)
    }
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    Some((digits(&text[..unit])?, text[unit..].trim_start()))
}

/// A number of digits alone; the standard parser would also take a sign.
pub(super) fn digits(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_number_and_a_unit() {
        for (text, millis) in [("250ms", 250), ("10s", 10_000), ("5m", 300_000), ("1h", 3_600_000), ("0s", 0)]
        {
            assert_eq!(Duration::read(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in
            ["", "10", "s", "-1s", "+1s", "1.5s", "10 sec", "99999999999999999999s", "18446744073709551615h"]
        {
            assert_eq!(Duration::read(text), None, "{text}");
        }
    }

    #[test]
    fn durations_are_shown_as_they_are_written() {
        for text in ["0s", "1ms", "1500ms", "59s", "1m", "90s", "24h", "36h", "2d", "366d"] {
            assert_eq!(notation(Duration::read(text).unwrap()), text);
        }
        assert_eq!(notation(Duration::from_secs(3600)), "1h");
        assert_eq!(notation(Duration::from_secs(86_400)), "24h");
        assert_eq!(notation(Duration::from_secs(60)), "1m");
    }

    #[test]
    fn budgets_back_offs_and_sizes_have_their_forms() {
        let minutes = |count: u64| Duration::from_secs(60 * count);
        assert_eq!(Budget::read("5 per 10m"), Some(Budget { count: 5, window: minutes(10) }));
        assert_eq!([Budget::read("0 per 10m"), Budget::read("5 per 0s"), Budget::read("5/10m")], [None; 3]);
        assert_eq!(Backoff::read("1s..5m"), Some(Backoff { first: Duration::from_secs(1), max: minutes(5) }));
        assert_eq!([Backoff::read("5m..1s"), Backoff::read("1s"), Backoff::read("0s..0s")], [None; 3]);
        assert_eq!(Size::read("256KiB"), Some(Size(262_144)));
        assert_eq!(
            [Size::read("256KB"), Size::read("256"), Size::read("18446744073709551615KiB")],
            [None; 3]
        );
    }

    #[test]
    fn what_could_hold_a_password_is_not_repeated() {
        assert_eq!(quote("10 sec"), r#""10 sec""#);
        assert_eq!(quote(r"\x4"), r"'\x4'");
        assert_eq!(quote("\\'\n"), r#""\\'\n""#);
        assert_eq!(quote("redis://:pw@h"), "another text");
        assert_eq!(quote("user:pw@h"), "another text");
    }
}
