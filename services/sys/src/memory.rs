//! How much memory a daemon that mostly waits keeps without need.
//!
//! The C library's allocator keeps what each thread freed in an arena of that thread's, for ever as a rule: a
//! daemon that once had a large report in each of them stays as large as all of them together. And the kernel
//! keeps mapped whatever lies around code that ran once, most of it at the start. Nothing here decides what is
//! allocated.

use std::io;

use crate::raw;

/// A larger block than this is a mapping of its own and goes back when it is freed. Set once, it stays:
/// by itself the allocator raises it with every large block that is freed.
const OWN_MAPPING_BYTES: i32 = 64 << 10;
/// So much is kept at the end of the heap.
const KEPT_BYTES: i32 = 128 << 10;

/// For a daemon that mostly waits: all threads share one arena, and what is freed at its end or was large
/// goes back to the kernel. Call it before there are threads. `false` where the allocator does not hear it.
pub fn keep_little() -> bool {
    raw::set_allocator(raw::ARENA_MAX, 1)
        && raw::set_allocator(raw::MMAP_THRESHOLD, OWN_MAPPING_BYTES)
        && raw::set_allocator(raw::TRIM_THRESHOLD, KEPT_BYTES)
}

/// Gives back to the kernel what is free in the middle of the heap, and its pages of the program, which come
/// again where they are run. Both take a millisecond or less for a few megabytes.
///
/// # Errors
/// When the kernel does not tell what is mapped.
pub fn give_back() -> io::Result<()> {
    raw::trim_allocator();
    raw::forget_code()
}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use std::process::Command;
    use std::sync::Barrier;

    use super::*;

    const CHILD: &str = "KEYWHEEL_TEST_ARENAS";
    const THREADS: usize = 8;
    /// What an arena takes of the address space.
    const ARENA_KB: u64 = 64 << 10;

    fn size_kb(field: &str) -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Address space that threads took which had something from the allocator, stacks apart.
    fn taken_kb() -> u64 {
        const STACK_KB: u64 = 256;
        let before = size_kb("VmSize:");
        let (had, told) = (Barrier::new(THREADS + 1), Barrier::new(THREADS + 1));
        let work = || {
            let block = vec![1_u8; 1000];
            had.wait();
            told.wait();
            drop(block);
        };
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                let thread = std::thread::Builder::new().stack_size(256 << 10);
                thread.spawn_scoped(scope, work).unwrap();
            }
            had.wait();
            let taken = size_kb("VmSize:").saturating_sub(before);
            told.wait();
            taken.saturating_sub(STACK_KB * THREADS as u64)
        })
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        clippy::print_stdout,
        reason = "the child is told by a variable, and its parent reads what it prints"
    )]
    fn threads_share_one_arena_and_what_is_free_goes_back() {
        if std::env::var_os(CHILD).is_some() {
            assert!(keep_little());
            println!("taken={}", taken_kb());
            // What stays between what goes holds the end of the heap.
            let blocks: Vec<Box<[u8; 4000]>> = (0..4000).map(|_| Box::new([1; 4000])).collect();
            let kept: Vec<_> = blocks.into_iter().step_by(1000).collect();
            let before = size_kb("VmRSS:");
            give_back().unwrap();
            println!("back={}", before.saturating_sub(size_kb("VmRSS:")));
            drop(kept);
            return;
        }
        let test = "memory::tests::threads_share_one_arena_and_what_is_free_goes_back";
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--test-threads=1", "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        let told = |word: &str| -> u64 {
            let line = said.lines().find_map(|line| line.split(word).nth(1));
            line.unwrap().trim().parse().unwrap()
        };
        assert!(told("taken=") < ARENA_KB, "{said}");
        assert!(told("back=") > 8 << 10, "{said}");
    }
}
