//! The facts: what the daemon can know and publish, as plain data.
//!
//! Every layer speaks these types. The kernel's records and `/proc` are turned into them, the engine
//! decides on them, and [`crate::emit`] alone turns them into JSON.

pub mod actor;
mod agent;
pub mod container;
pub mod crash;
pub mod culprit;
mod drill;
mod event;
mod fleet;
mod growth;
pub mod health;
mod hook;
mod host;
mod id;
pub mod incident;
mod memory;
pub mod observation;
pub mod operator;
pub mod place;
pub mod probe;
pub mod process;
mod reload;
mod server;
mod settings;
mod signal;
pub mod socket;
mod source;
mod stacks;
pub mod summary;
pub mod unit;

pub use actor::*;
pub use agent::*;
pub use container::*;
pub use crash::*;
pub use culprit::*;
pub use drill::*;
pub use event::*;
pub use fleet::*;
pub use growth::*;
pub use health::*;
pub use hook::*;
pub use host::*;
pub use id::*;
pub use incident::*;
pub use memory::*;
pub use observation::*;
pub use operator::*;
pub use place::*;
pub use probe::*;
pub use process::*;
pub use reload::*;
pub use server::*;
pub use settings::*;
pub use socket::*;
pub use source::*;
pub use stacks::*;
pub use summary::*;
pub use unit::*;
