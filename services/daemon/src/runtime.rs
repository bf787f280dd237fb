//! The runtime of a program: made at its start, and left within a bounded time at its end.
//!
//! Invariant: what still runs on a thread of its own, such as a name that does not resolve, holds no
//! process that is done. It decides nothing about what runs; [`crate::Shutdown`] waits for that.

use std::future::Future;
use std::io;
use std::time::Duration;

/// How long a program that is done waits for threads that were lent out, and cannot be ended.
pub const THREADS_GRACE: Duration = Duration::from_secs(2);

/// Runs a program to its end.
///
/// # Errors
/// When no runtime can be made.
pub fn run_to_end<T>(program: impl Future<Output = T>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(program);
    // Dropped, it would wait for all of them for as long as they take.
    runtime.shutdown_timeout(THREADS_GRACE);
    Ok(done)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Longer than any machine takes for it.
    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn a_thread_that_does_not_come_back_holds_no_program_that_is_done() {
        let (resolves, resolved) = mpsc::sync_channel::<()>(1);
        let (ends, ended) = mpsc::sync_channel(1);
        let program = std::thread::spawn(move || {
            let done = run_to_end(async move {
                let (begins, begun) = tokio::sync::oneshot::channel();
                tokio::task::spawn_blocking(move || {
                    begins.send(()).unwrap();
                    // As a resolver whose server does not answer.
                    let _ = resolved.recv();
                });
                begun.await.unwrap();
                7
            });
            ends.send(done.unwrap()).unwrap();
        });
        assert_eq!(ended.recv_timeout(PATIENCE), Ok(7));
        drop(resolves);
        program.join().unwrap();
    }
}
