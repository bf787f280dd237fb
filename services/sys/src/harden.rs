//! Process hardening: no core dump, no debugger of the same user (C5).

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

use crate::Error;

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
