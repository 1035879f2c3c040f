//! What of the hardware does not work, in words.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// One line for each part that does not work. Cheap to clone; all clones are the same list.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<BTreeMap<&'static str, String>>>);

impl Faults {
    /// What is wrong and what to do, one line a part, in a fixed order. Empty when all is well.
    pub fn list(&self) -> Vec<String> {
        let faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        faults.values().cloned().collect()
    }

    /// Replaces what is known of a part, and logs it if that is news.
    pub(crate) fn set(&self, part: &'static str, fault: Option<String>) {
        let mut faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if faults.get(part) == fault.as_ref() {
            return;
        }
        match fault {
            Some(fault) => {
                tracing::warn!(part, %fault, "hardware fails; the stream goes on without it");
                faults.insert(part, fault);
            }
            None => {
                tracing::info!(part, "hardware works again");
                faults.remove(part);
            }
        }
    }
}
