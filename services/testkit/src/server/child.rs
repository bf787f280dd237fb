//! A server's own process: whether it is ready, how it is stopped in its tracks, and its end.

use std::process::{Child, Command};
use std::time::Duration;

/// Waits until it answers, and looks so often, with a pause in between; `false` when it ended, or never answered.
pub(super) fn becomes_ready(
    child: &mut Option<Child>,
    (looks, pause): (u32, Duration),
    mut answers: impl FnMut() -> bool,
) -> bool {
    for _ in 0..looks {
        let ended = child.as_mut().and_then(|c| c.try_wait().ok().flatten());
        if ended.is_some() {
            return false;
        }
        if answers() {
            return true;
        }
        std::thread::sleep(pause);
    }
    false
}

/// Ends it as a power cut would: nothing is flushed, nobody is told. One that does not run stays as it is.
pub(super) fn kill(child: &mut Option<Child>) {
    if let Some(mut child) = child.take() {
        let _ended = child.kill();
        let _reaped = child.wait();
    }
}

/// Stops it until it is sent `-CONT`: connections stay open and nothing answers. Looks so often whether it stopped.
pub(super) fn pause(child: Option<&Child>, (looks, pause): (u32, Duration)) {
    signal(child, "-STOP");
    let child = child.expect("a server that runs");
    let stat = format!("/proc/{}/stat", child.id());
    for _ in 0..looks {
        let state = std::fs::read_to_string(&stat).unwrap_or_default();
        if state.contains(") T ") {
            return;
        }
        std::thread::sleep(pause);
    }
    panic!("the server does not stop");
}

/// Sends it a signal, as `kill` names it.
pub(super) fn signal(child: Option<&Child>, signal: &str) {
    let child = child.expect("a server that runs");
    let sent = Command::new("kill")
        .args([signal, &child.id().to_string()])
        .status();
    assert!(sent.expect("kill").success(), "{signal}");
}
