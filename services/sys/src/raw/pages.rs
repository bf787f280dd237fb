//! Pages for keys and values: mapped apart from everything else, between two pages that nobody may touch.
//!
//! Invariants: what is mapped here is in no core, and no program that this one forks sees it; a range of bytes has one
//! owner, who alone reads and writes it, for as long as it is mapped. Who gets which pages is decided elsewhere.

use std::io;
use std::os::fd::{AsFd as _, FromRawFd as _, OwnedFd};
use std::ptr::{self, NonNull};
use std::slice;

use rustix::mm::{
    Advice, MapFlags, MlockFlags, MprotectFlags, ProtFlags, madvise, mlock_with, mmap,
    mmap_anonymous, mprotect, munmap,
};

/// How well pages are kept; the better one is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Keeping {
    /// Like all other memory: the kernel may write them to the swap.
    Plain,
    /// Locked: never swapped (`mlock2`).
    Locked,
    /// Locked, and not even the kernel maps them for itself, nor does anybody read them from outside
    /// (`memfd_secret`).
    Secret,
}

/// Bytes of a page.
#[must_use]
pub fn page_bytes() -> usize {
    const LEAST: usize = 4096;
    // SAFETY: no pointer.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).unwrap_or(LEAST).max(LEAST)
}

/// Whole pages, all zeros at first; overwritten and unmapped on drop.
#[derive(Debug)]
pub struct Pages {
    start: NonNull<u8>,
    bytes: usize,
    keeping: Keeping,
}

// SAFETY: the range is this value's alone, and nothing about it belongs to a thread.
unsafe impl Send for Pages {}
// SAFETY: a shared reference only reads.
unsafe impl Sync for Pages {}

impl Pages {
    /// Maps at least so many bytes, kept like this.
    ///
    /// # Errors
    /// When the kernel does not have this way to keep pages, or does not let this process keep so many.
    pub fn map(least: usize, keeping: Keeping) -> io::Result<Self> {
        let page = page_bytes();
        let too_many = || io::Error::from(io::ErrorKind::InvalidInput);
        let bytes = least.checked_next_multiple_of(page).ok_or_else(too_many)?;
        let all = bytes.checked_add(2 * page).ok_or_else(too_many)?;
        let first = match keeping {
            Keeping::Secret => map_secret(all)?,
            Keeping::Locked | Keeping::Plain => map_anonymous(all)?,
        };
        // From here on dropping it unmaps everything.
        let pages = Self {
            start: first,
            bytes,
            keeping,
        }
        .behind_guard(page)?;
        pages.withhold()?;
        Ok(pages)
    }

    /// How they are kept.
    #[must_use]
    pub fn keeping(&self) -> Keeping {
        self.keeping
    }

    /// What they hold.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the range is mapped for reading and initialised by the kernel, and it is this value's alone.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }

    /// What they hold, to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, mapped for writing too, and nobody else refers to it while `self` is borrowed.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }

    /// Cuts them into pieces of `size` bytes. They stay mapped for good; what is left at the end is not used.
    #[must_use]
    pub fn into_pieces(self, size: usize) -> Vec<Piece> {
        let count = self.bytes.checked_div(size).unwrap_or_default();
        let piece = |at: usize| Piece {
            // SAFETY: `at` is less than `count`, so the piece ends within the range, which stays mapped.
            start: unsafe { self.start.add(at * size) },
            bytes: size,
            keeping: self.keeping,
        };
        let pieces = (0..count).map(piece).collect();
        std::mem::forget(self);
        pieces
    }

    /// Makes the first and the last page untouchable; `self.start` is the first one's at the call.
    fn behind_guard(mut self, page: usize) -> io::Result<Self> {
        let first = self.start;
        // SAFETY: `page` bytes stand before and behind the `bytes` of this mapping, which is ours as a whole.
        let (start, behind) = unsafe { (first.add(page), first.add(page + self.bytes)) };
        self.start = start;
        for guard in [first, behind] {
            // SAFETY: nobody refers to these pages yet, and from here on nobody does.
            unsafe { mprotect(guard.as_ptr().cast(), page, MprotectFlags::empty()) }?;
        }
        Ok(self)
    }

    /// Keeps them out of cores, of what is forked, and, if asked for, of the swap.
    fn withhold(&self) -> io::Result<()> {
        let at = self.start.as_ptr().cast();
        // A kernel without one of these would leave a copy somewhere, so it counts as not having this way.
        let advice: &[Advice] = match self.keeping {
            // Never in a core by itself. Shared with what is forked otherwise, which would overwrite it here.
            Keeping::Secret => &[Advice::LinuxDontFork],
            Keeping::Locked | Keeping::Plain => &[Advice::LinuxDontDump, Advice::LinuxWipeOnFork],
        };
        for advice in advice {
            // SAFETY: none of these changes what the pages hold here.
            unsafe { madvise(at, self.bytes, *advice) }?;
        }
        if self.keeping == Keeping::Locked {
            // SAFETY: the range is mapped and ours. A page counts once it is used.
            unsafe { mlock_with(at, self.bytes, MlockFlags::ONFAULT) }?;
        }
        Ok(())
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        wipe_all(self.bytes_mut());
        let page = page_bytes();
        // What cannot be unmapped stays, with nothing in it.
        // SAFETY: the mapping begins a page before and ends a page behind, and nobody refers to it any more.
        let _stays = unsafe {
            let first = self.start.sub(page);
            munmap(first.as_ptr().cast(), self.bytes + 2 * page)
        };
    }
}

/// A part of pages that stay mapped.
#[derive(Debug)]
pub struct Piece {
    start: NonNull<u8>,
    bytes: usize,
    keeping: Keeping,
}

// SAFETY: the range is this value's alone, and nothing about it belongs to a thread.
unsafe impl Send for Piece {}
// SAFETY: a shared reference only reads.
unsafe impl Sync for Piece {}

impl Piece {
    /// How it is kept.
    #[must_use]
    pub fn keeping(&self) -> Keeping {
        self.keeping
    }

    /// What it holds.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the range stays mapped for reading, and it is this value's alone.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }

    /// What it holds, to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, mapped for writing too, and nobody else refers to it while `self` is borrowed.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }

    /// Puts a value here; gives both back where it does not fit.
    pub fn hold<T>(self, value: T) -> Result<Held<T>, (Self, T)> {
        let place = self.start.cast::<T>();
        if size_of::<T>() > self.bytes || !place.is_aligned() {
            return Err((self, value));
        }
        // SAFETY: the place is aligned, large enough, mapped for writing, and this value's alone.
        unsafe { place.write(value) };
        Ok(Held { piece: self, place })
    }
}

/// A value in a piece of kept memory. Who has it calls [`Self::release`] in the end: nothing else drops the value.
#[derive(Debug)]
pub struct Held<T> {
    piece: Piece,
    place: NonNull<T>,
}

// SAFETY: it owns the `T`, as a box does.
unsafe impl<T: Send> Send for Held<T> {}
// SAFETY: a shared reference gives a shared reference to the `T`, as a box does.
unsafe impl<T: Sync> Sync for Held<T> {}

impl<T> Held<T> {
    /// The value.
    #[must_use]
    pub fn get(&self) -> &T {
        // SAFETY: a `T` was written there, and nobody changes it while `self` is borrowed.
        unsafe { self.place.as_ref() }
    }

    /// The value, to be changed.
    pub fn get_mut(&mut self) -> &mut T {
        // SAFETY: a `T` was written there, and nobody else refers to it while `self` is borrowed.
        unsafe { self.place.as_mut() }
    }

    /// Drops the value and overwrites where it lay.
    #[must_use]
    pub fn release(self) -> Piece {
        let Self { mut piece, place } = self;
        // SAFETY: a `T` was written there; it is dropped once, because `self` is gone.
        unsafe { ptr::drop_in_place(place.as_ptr()) };
        wipe_all(piece.bytes_mut());
        piece
    }
}

/// Overwrites bytes of kept memory with zeros.
pub fn wipe_all(bytes: &mut [u8]) {
    // The compiler has to take it that somebody reads these zeros. One volatile write a byte would take as long as
    // a cipher does.
    bytes.fill(0);
    std::hint::black_box(bytes.as_ptr());
    std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
}

fn map_anonymous(bytes: usize) -> io::Result<NonNull<u8>> {
    let rights = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a mapping of its own, where the kernel finds room.
    let start = unsafe { mmap_anonymous(ptr::null_mut(), bytes, rights, MapFlags::PRIVATE) }?;
    not_null(start.cast())
}

/// `memfd_secret`: the pages count against the limit of locked memory.
fn map_secret(bytes: usize) -> io::Result<NonNull<u8>> {
    let file = memfd_secret()?;
    let length = u64::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
    rustix::fs::ftruncate(&file, length)?;
    let rights = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a mapping of its own, where the kernel finds room, of a file that nobody else has; it is as long.
    let start = unsafe {
        mmap(
            ptr::null_mut(),
            bytes,
            rights,
            MapFlags::SHARED,
            file.as_fd(),
            0,
        )
    }?;
    not_null(start.cast())
}

fn memfd_secret() -> io::Result<OwnedFd> {
    // SAFETY: only an integer is passed.
    let result = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
    super::check(result)?;
    let number = i32::try_from(result).map_err(|_| io::ErrorKind::InvalidData)?;
    // SAFETY: the kernel just made this descriptor, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn not_null(start: *mut u8) -> io::Result<NonNull<u8>> {
    NonNull::new(start).ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rights and flags of the mapping that holds an address, and of those right before and behind it.
    fn around(address: usize) -> [(String, String); 3] {
        let mut found: Vec<(usize, usize, String, String)> = Vec::new();
        for line in std::fs::read_to_string("/proc/self/smaps").unwrap().lines() {
            let mut words = line.split_ascii_whitespace();
            let first = words.next().unwrap();
            if first == "VmFlags:" {
                found.last_mut().unwrap().3 = format!("{} ", words.collect::<Vec<_>>().join(" "));
            } else if let Some((from, to)) = first.split_once('-') {
                let number = |text| usize::from_str_radix(text, 16).unwrap();
                let rights = words.next().unwrap().to_owned();
                found.push((number(from), number(to), rights, String::new()));
            }
        }
        let holds = |row: &&(usize, usize, String, String)| (row.0..row.1).contains(&address);
        let own = found.iter().find(holds).unwrap();
        let before = found.iter().find(|row| row.1 == own.0).unwrap();
        let behind = found.iter().find(|row| row.0 == own.1).unwrap();
        [before, own, behind].map(|row| (row.2.clone(), row.3.clone()))
    }

    fn checked(keeping: Keeping, flags: &[&str]) {
        let pages = match Pages::map(1, keeping) {
            Ok(pages) => pages,
            // Neither every kernel nor every limit allows it; that something is said then is another test's.
            Err(error) => {
                assert!(keeping > Keeping::Plain, "{error}");
                return;
            }
        };
        assert_eq!(pages.keeping(), keeping);
        assert!(pages.bytes().iter().all(|byte| *byte == 0));
        let [before, own, behind] = around(pages.bytes().as_ptr().addr());
        assert!(own.0.starts_with("rw-"), "{own:?}");
        for flag in flags {
            assert!(own.1.contains(&format!("{flag} ")), "{flag}: {own:?}");
        }
        for guard in [before, behind] {
            assert!(guard.0.starts_with("---"), "{keeping:?}: {guard:?}");
        }
    }

    #[test]
    fn pages_are_in_no_core_and_no_fork_and_lie_between_two_that_nobody_may_touch() {
        // lo: locked; dd: not in a core; dc: not in a fork; wf: zeros in a fork.
        checked(Keeping::Plain, &["dd", "wf"]);
        checked(Keeping::Locked, &["lo", "dd", "wf"]);
        checked(Keeping::Secret, &["lo", "dd", "dc"]);
    }

    #[test]
    fn pieces_lie_apart_and_a_value_is_dropped_and_overwritten_where_it_lay() {
        let pages = Pages::map(1, Keeping::Plain).unwrap();
        let mut pieces = pages.into_pieces(64);
        assert_eq!(pieces.len(), page_bytes() / 64);
        for (number, piece) in pieces.iter_mut().enumerate() {
            piece.bytes_mut().fill(u8::try_from(number % 251).unwrap());
        }
        for (number, piece) in pieces.iter().enumerate() {
            let byte = u8::try_from(number % 251).unwrap();
            assert!(piece.bytes().iter().all(|found| *found == byte));
        }
        let dropped = std::rc::Rc::new(());
        let mut held = pieces
            .pop()
            .unwrap()
            .hold(([7_u8; 32], dropped.clone()))
            .unwrap();
        held.get_mut().0[31] = 8;
        assert_eq!(held.get().0[30..], [7, 8]);
        let piece = held.release();
        assert_eq!(std::rc::Rc::strong_count(&dropped), 1);
        assert!(piece.bytes().iter().all(|byte| *byte == 0));
        let (piece, large) = piece.hold([9_u8; 65]).unwrap_err();
        assert_eq!((piece.bytes().len(), large.len()), (64, 65));
    }

    #[test]
    fn too_many_bytes_are_refused() {
        for keeping in [Keeping::Plain, Keeping::Locked, Keeping::Secret] {
            assert!(Pages::map(usize::MAX, keeping).is_err());
            assert!(Pages::map(usize::MAX / 2, keeping).is_err());
        }
    }
}
