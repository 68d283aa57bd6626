//! The JSON Schema of a configuration file, from the same types that read it. Editors complete and check with it.
//!
//! It refuses no file that the daemon accepts. The daemon also refuses what a schema cannot express, such as a name twice
//! or an interval out of its range.

use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::file::File;
use crate::json_schema::Present;

/// The JSON Schema (2020-12) of a configuration file, also of one in `conf.d`.
pub fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with_transform(Present);
    let mut schema = settings.into_generator().into_root_schema_for::<File>();
    schema.insert("title".to_owned(), json!("hostprobe configuration"));
    schema.into()
}
