//! The two signals that it follows: HUP means to read secrets again, TERM to leave.
//!
//! Invariant: a handler only touches an atomic.
#![expect(
    unsafe_code,
    reason = "the standard library has no way to catch a signal"
)]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const HANGUP: i32 = 1;
const TERMINATE: i32 = 15;

static RELOADS: AtomicU64 = AtomicU64::new(0);
static IS_TOLD_TO_LEAVE: AtomicBool = AtomicBool::new(false);

unsafe extern "C" {
    /// The C library's own: the handler stays, and calls that it interrupts go on.
    fn signal(number: i32, handler: extern "C" fn(i32)) -> usize;
}

extern "C" fn on_hangup(_: i32) {
    RELOADS.fetch_add(1, Ordering::Relaxed);
}

extern "C" fn on_terminate(_: i32) {
    IS_TOLD_TO_LEAVE.store(true, Ordering::Relaxed);
}

/// Catches both from now on.
pub(crate) fn listen() {
    // SAFETY: both numbers are signals that can be caught, and both handlers live for ever and do nothing
    // that is not allowed in one.
    unsafe {
        signal(HANGUP, on_hangup);
        signal(TERMINATE, on_terminate);
    }
}

/// How often it was told to read secrets again.
pub(crate) fn reloads() -> u64 {
    RELOADS.load(Ordering::Relaxed)
}

/// Whether it was told to leave.
pub(crate) fn is_told_to_leave() -> bool {
    IS_TOLD_TO_LEAVE.load(Ordering::Relaxed)
}
