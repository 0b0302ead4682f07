//! What servers that know no groups say when one is asked of them. Called by their dialects.

use callboard_load::{Failure, crew::Plan};

/// Refuses a plan that needs a group of `server`.
///
/// # Errors
/// There is such a plan.
pub fn no_groups(server: &str, plan: Option<&Plan>) -> Result<(), Failure> {
    match plan {
        None => Ok(()),
        Some(_) => Err(Failure::new(format!("{server} has no groups to measure"))),
    }
}
