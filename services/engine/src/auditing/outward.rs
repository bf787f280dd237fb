//! Records of what goes between here and others outside.

use keywheel_core::command::Outward;

use super::Described;

/// Verb and object.
pub(super) fn described(wish: &Outward) -> Described {
    match wish {
        Outward::RemoveNotification(name) => {
            ("remove-notification", format!("notification/{name}"), None)
        }
        Outward::RemoveSignalSource(name) => (
            "remove-signal-source",
            format!("signal-source/{name}"),
            None,
        ),
        Outward::TakeSignal(signal) => {
            let object = format!("signal-source/{}", signal.via);
            ("take-signal", object, None)
        }
    }
}
