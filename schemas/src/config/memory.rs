//! Whether a process may run where its keys and values cannot be locked in memory.

use super::sources::Sources;
use crate::leaf::shorten;

/// `memory.require_locked`.
pub(super) fn take_require_locked(sources: &mut Sources) -> bool {
    match sources.optional_text("memory.require_locked").as_deref() {
        None | Some("off") => false,
        Some("on") => true,
        Some(other) => {
            let message = format!("`{}` is neither `on` nor `off`", shorten(other));
            sources.fault("memory.require_locked", message);
            false
        }
    }
}
