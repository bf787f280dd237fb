//! Process hardening: no core dump, no debugger of the same user (C5), no capability that is not needed.

use rustix::process::{
    DumpableBehavior, Pid, Resource, Rlimit, Signal, getppid, set_dumpable_behavior,
    set_parent_process_death_signal, setrlimit,
};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

use crate::Error;

/// What the namespace helper needs to join a mount namespace: `setns` asks for both, and a directory on
/// the way may be closed to everybody but its owner.
pub const TO_JOIN: CapabilitySet = CapabilitySet::SYS_ADMIN
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::DAC_OVERRIDE);
/// What it needs once it is inside: to move a mount or clone one, and to make and enter directories.
pub const INSIDE: CapabilitySet = CapabilitySet::SYS_ADMIN.union(CapabilitySet::DAC_OVERRIDE);
/// What the OCI runtime wrapper acts with: an engine may let another user own what it hands over.
pub const OF_WRAPPER: CapabilitySet = CapabilitySet::DAC_OVERRIDE;

/// For a long-lived daemon: core size 0 (inherited by what it starts) and not dumpable.
pub fn daemon() -> Result<(), Error> {
    setrlimit(
        Resource::Core,
        Rlimit {
            current: Some(0),
            maximum: Some(0),
        },
    )
    .map_err(Error::os("set the core size limit"))?;
    transient()
}

/// For a program that execs another one: not dumpable until that exec; the limits of what it starts stay as they are.
pub fn transient() -> Result<(), Error> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(Error::os("make this process not dumpable"))
}

/// Gives up every capability but these, for good. Only the calling thread's: for a program that has no other.
pub fn keep_only(kept: CapabilitySet) -> Result<(), Error> {
    let held = capabilities(None).map_err(Error::os("read this program's capabilities"))?;
    let left = held.permitted & kept;
    let sets = CapabilitySets {
        effective: left,
        permitted: left,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets).map_err(Error::os("give up capabilities"))
}

/// For a program that execs another one: until then it acts with these alone. What it may have (the permitted and the
/// bounding set) stays, because from that the kernel makes what the other program has, and a container may be granted
/// any of it; so an exec is as it would have been, its effective set too.
pub fn act_with(kept: CapabilitySet) -> Result<(), Error> {
    let held = capabilities(None).map_err(Error::os("read this program's capabilities"))?;
    let sets = CapabilitySets {
        effective: held.effective & kept,
        ..held
    };
    set_capabilities(None, sets).map_err(Error::os("lower this program's capabilities"))
}

/// Has the kernel kill this program when the one that started it, `parent`, ends. Call it after capabilities were
/// given up, which the kernel may take for a reason to forget it.
pub fn end_with(parent: Pid) -> Result<(), Error> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(Error::os("be ended together with the parent"))?;
    // One that ended before the kernel was told is not told of.
    if getppid() == Some(parent) {
        Ok(())
    } else {
        Err(Error::Gone {
            pid: parent.as_raw_pid(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const CHILD: &str = "KEYWHEEL_TEST_CAPABILITIES";
    /// `CAP_DAC_OVERRIDE` as procfs writes a set.
    const DAC_OVERRIDE: &str = "0000000000000002";

    /// What this test program prints of its capabilities when it is started again as a child.
    fn child(test: &str) -> String {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--test-threads=1", "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the child is told by a variable, which libtest leaves alone"
    )]
    fn is_set(variable: &str) -> bool {
        std::env::var_os(variable).is_some()
    }

    #[expect(
        clippy::print_stdout,
        reason = "what the child is started for: its parent reads it"
    )]
    fn tell(text: &str) {
        println!("{text}");
    }

    /// The lines of one thread's status that begin with a word; libtest runs a test in a thread of its own.
    fn own(word: &str) -> String {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with(word)).unwrap();
        line.split_whitespace().last().unwrap().to_owned()
    }

    fn is_privileged() -> bool {
        let held = capabilities(None).unwrap().permitted;
        let enough = held.contains(TO_JOIN);
        assert!(enough || !is_set("CI"), "CI needs root for this test");
        enough
    }

    #[test]
    fn a_daemon_leaves_no_core_and_is_closed_to_others_of_its_user() {
        if is_set(CHILD) {
            daemon().unwrap();
            let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
            let mut lines = limits.lines();
            let core = lines.find(|line| line.starts_with("Max core file size"));
            let words: Vec<&str> = core.unwrap().split_whitespace().collect();
            tell(&words.join(" "));
            let dumpable = rustix::process::dumpable_behavior().unwrap();
            tell(&format!("dumpable={dumpable:?}"));
            return;
        }
        let said =
            child("harden::tests::a_daemon_leaves_no_core_and_is_closed_to_others_of_its_user");
        assert!(said.contains("Max core file size 0 0 bytes"), "{said}");
        assert!(said.contains("dumpable=NotDumpable"), "{said}");
    }

    #[test]
    fn what_is_not_kept_is_gone_for_good() {
        if is_set(CHILD) {
            keep_only(OF_WRAPPER).unwrap();
            for word in ["CapPrm", "CapEff"] {
                tell(&format!("{word}={}", own(word)));
            }
            let more = CapabilitySets {
                effective: TO_JOIN,
                permitted: TO_JOIN,
                inheritable: CapabilitySet::empty(),
            };
            assert!(set_capabilities(None, more).is_err());
            return;
        }
        if !is_privileged() {
            return;
        }
        let said = child("harden::tests::what_is_not_kept_is_gone_for_good");
        for word in ["CapPrm", "CapEff"] {
            assert!(said.contains(&format!("{word}={DAC_OVERRIDE}")), "{said}");
        }
    }

    #[test]
    fn what_is_started_has_all_that_it_would_have_had() {
        if is_set(CHILD) {
            let before = own("CapPrm");
            act_with(OF_WRAPPER).unwrap();
            assert_eq!(own("CapPrm"), before);
            tell(&format!("CapEff={}", own("CapEff")));
            let started = Command::new("grep")
                .args(["Cap", "/proc/self/status"])
                .output()
                .unwrap();
            tell(&String::from_utf8(started.stdout).unwrap());
            return;
        }
        if !is_privileged() {
            return;
        }
        let said = child("harden::tests::what_is_started_has_all_that_it_would_have_had");
        assert!(said.contains(&format!("CapEff={DAC_OVERRIDE}")), "{said}");
        let plain = Command::new("grep")
            .args(["Cap", "/proc/self/status"])
            .output()
            .unwrap();
        let plain = String::from_utf8(plain.stdout).unwrap();
        assert!(said.contains(plain.trim()), "{said} is not {plain}");
    }
}
