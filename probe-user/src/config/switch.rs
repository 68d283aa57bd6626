//! Values that `false` can stand in place of, to turn a check off.

use std::{borrow::Cow, collections::BTreeMap, fmt, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor, value::MapAccessDeserializer},
};

use super::values::{Table, Written, quote};

/// A value, or `false` to turn a check off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OrOff<T> {
    On(T),
    Off,
}

impl<T> OrOff<T> {
    /// The value, or the default if nothing is written; None if it is turned off.
    pub(super) fn value<V>(written: &Option<Self>, default: Option<V>, value: impl Fn(&T) -> V) -> Option<V> {
        match written {
            None => default,
            Some(Self::Off) => None,
            Some(Self::On(written)) => Some(value(written)),
        }
    }
}

/// What can stand in place of `false`.
pub(super) trait Switched: Sized {
    /// Completes "expected …, or false".
    const EXPECTED: &'static str;

    fn number(_number: f64) -> Option<Self> {
        None
    }

    fn text(_text: &str) -> Option<Self> {
        None
    }

    /// None if it is no table.
    fn table<'de, A: de::MapAccess<'de>>(_table: A) -> Option<Result<Self, A::Error>> {
        None
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema;
}

impl<'de, T: Switched> Deserialize<'de> for OrOff<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<T>(std::marker::PhantomData<T>);
        impl<'de, T: Switched> Visitor<'de> for Reader<T> {
            type Value = OrOff<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}, or false", T::EXPECTED)
            }

            fn visit_bool<E: de::Error>(self, on: bool) -> Result<OrOff<T>, E> {
                if on { Err(wrong::<T, E>("true")) } else { Ok(OrOff::Off) }
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<OrOff<T>, E> {
                T::number(number as f64).map(OrOff::On).ok_or_else(|| wrong::<T, E>(&number.to_string()))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<OrOff<T>, E> {
                T::number(number).map(OrOff::On).ok_or_else(|| wrong::<T, E>(&number.to_string()))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<OrOff<T>, E> {
                T::text(text).map(OrOff::On).ok_or_else(|| wrong::<T, E>(&quote(text)))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, table: A) -> Result<OrOff<T>, A::Error> {
                T::table(table).unwrap_or_else(|| Err(wrong::<T, A::Error>("a table"))).map(OrOff::On)
            }
        }
        deserializer.deserialize_any(Reader(std::marker::PhantomData))
    }
}

fn wrong<T: Switched, E: de::Error>(found: &str) -> E {
    E::custom(format_args!("found {found}, expected {}, or false", T::EXPECTED))
}

impl<T: Switched> JsonSchema for OrOff<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "OrOff".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let on = T::schema(generator);
        json_schema!({ "anyOf": [on, { "const": false }] })
    }
}

/// Above 0, to 100.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Percent(pub(super) f64);

impl Switched for Percent {
    const EXPECTED: &'static str = "a percentage above 0, to 100";

    fn number(number: f64) -> Option<Self> {
        (number > 0.0 && number <= 100.0).then_some(Self(number))
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "exclusiveMinimum": 0, "maximum": 100 })
    }
}

/// A duration above zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Time(pub(super) Duration);

impl Switched for Time {
    const EXPECTED: &'static str = Duration::EXPECTED;

    fn text(text: &str) -> Option<Self> {
        Duration::read(text).filter(|time| !time.is_zero()).map(Self)
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        super::values::some_duration()
    }
}

/// Tables by the pattern of paths.
#[derive(Clone, Debug)]
pub(super) struct ByPattern<T>(pub(super) BTreeMap<String, OrOff<Table<T>>>);

impl<T: Keys> Switched for ByPattern<T> {
    const EXPECTED: &'static str = r#"a table such as { "/var*" = { percent = 80 } }"#;

    fn table<'de, A: de::MapAccess<'de>>(mut table: A) -> Option<Result<Self, A::Error>> {
        let mut all = BTreeMap::new();
        let read = loop {
            match table.next_entry::<String, OrOff<Table<T>>>() {
                Err(error) => break Err(error),
                Ok(None) => break Ok(Self(all)),
                Ok(Some((pattern, _))) if !is_pattern(&pattern) => {
                    break Err(de::Error::custom(
                        "found another pattern, expected \"*\", or the absolute path of a mount point, with * for any characters",
                    ));
                }
                Ok(Some((pattern, options))) => drop(all.insert(pattern, options)),
            }
        };
        Some(read)
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let of_one = generator.subschema_for::<OrOff<Table<T>>>();
        json_schema!({ "type": "object", "propertyNames": { "pattern": "^[/*]" }, "additionalProperties": of_one })
    }
}

fn is_pattern(pattern: &str) -> bool {
    pattern.starts_with(['/', '*'])
}

/// The keys of a table.
pub(super) trait Keys: for<'de> Deserialize<'de> + JsonSchema {}

impl<T: for<'de> Deserialize<'de> + JsonSchema> Keys for T {}

impl<T: Keys> Switched for Table<T> {
    const EXPECTED: &'static str = "a table such as { percent = 80 }";

    fn table<'de, A: de::MapAccess<'de>>(table: A) -> Option<Result<Self, A::Error>> {
        Some(T::deserialize(MapAccessDeserializer::new(table)).map(Table))
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<T>()
    }
}
