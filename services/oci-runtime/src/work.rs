//! Which calls of this program are work of its own, and how they end. Every other call is the real runtime's.

use crate::args::{Create, DirectStart, Exec, Invocation};
use crate::refuse::Refusal;
use crate::times;

/// A call that is looked at.
pub(crate) enum Work {
    /// A container is to get its secrets.
    Create {
        /// What is created.
        create: Create,
        /// When this program began.
        begun: i64,
    },
    /// A container would start without anybody having put anything in place.
    Direct(DirectStart),
    /// Perhaps a container's own health check.
    Exec(Exec),
}

/// How it ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing is to be injected: the real runtime takes over.
    PassThrough,
    /// The real runtime ran as a child, or was not to run, and this is the exit code.
    Done(u8),
}

impl Work {
    /// `None` for what is the real runtime's.
    pub(crate) fn of(invocation: &Invocation) -> Option<Result<Self, Refusal>> {
        let begun = times::now();
        if let Some(create) = invocation.create() {
            return Some(create.map(|create| Self::Create { create, begun }));
        }
        let direct = invocation.direct_start().map(Self::Direct);
        direct.or_else(|| invocation.exec().map(Self::Exec)).map(Ok)
    }
}
