//! A drill that is under way.

use crate::fact::DrillFault;

#[derive(Debug)]
pub struct ServiceDrill {
    pub fault: DrillFault,
    /// Who asked for it, for people.
    pub by: String,
}
