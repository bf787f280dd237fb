//! Memory for keys and values (H2): locked pages of their own, in no core and no fork, overwritten before they are used
//! again.
//!
//! Three ways, best first: pages that the kernel itself does not map (`memfd_secret`), locked pages (`mlock2`), and
//! plain ones, where the limit of locked memory (RLIMIT_MEMLOCK) allows no more or the kernel has neither. The last is
//! no silent one: [`state`] tells it for as long as the process runs. Small pieces are cut from pages that stay; large
//! ones keep a few pages for the next, so that a value costs no system call as a rule. Invariant: what is given out is
//! zeros. It does not know what it holds, and what copies its user makes of it.

use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

pub use crate::raw::pages::Keeping;
use crate::raw::pages::{Held, Pages, Piece, wipe_all};

/// Sizes of small pieces, and how many of one size are mapped at a time: a key, an ed25519 or X25519 key with what
/// belongs to it, and the classes to which values are padded, with length and tag.
const SMALL: [(usize, usize); 6] = [
    (64, 256),
    (256, 128),
    (640, 64),
    (1_152, 56),
    (4_352, 15),
    (16_640, 7),
];
/// Sizes of large pieces, each of which is a mapping of its own: the larger classes of padding.
const LARGE: [usize; 3] = [65_792, 262_400, 1_048_832];
/// So many bytes of large pieces stay mapped for the next value.
pub const MAX_IDLE_BYTES: usize = 4 << 20;
/// The longest piece: no value and no key is longer. What is longer lies on the heap, and is overwritten too.
pub const MAX_LOCKED_BYTES: usize = LARGE[2];
/// What the shipped units allow a service, and what a person is told to allow.
pub const ADVISED_LIMIT_BYTES: u64 = 64 << 20;

static POOL: Mutex<Pool> = Mutex::new(Pool::new(Keeping::Secret));

fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How this process keeps keys and values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Bytes mapped in pages that not even the kernel maps.
    pub secret_bytes: usize,
    /// Bytes mapped in locked pages.
    pub locked_bytes: usize,
    /// The most bytes that were in plain memory at once, since the start.
    pub plain_bytes: usize,
    /// Why the first of them were.
    pub refusal: Option<String>,
    /// How much this process may lock; `None` is without a limit.
    pub limit: Option<u64>,
}

impl State {
    /// Whether all keys and values were in locked memory since the start.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.plain_bytes == 0
    }
}

/// Takes as much of the limit as may be had, and the first pages. Call it before there are keys.
#[must_use]
pub fn prepare() -> State {
    raise_limit();
    drop(LockedBytes::zeroed(1));
    state()
}

/// How it is, and was.
#[must_use]
pub fn state() -> State {
    let mut state = pool().state.clone();
    state.limit = getrlimit(Resource::Memlock).current;
    state
}

/// The soft limit may go as high as the hard one without any right.
fn raise_limit() {
    let limit = getrlimit(Resource::Memlock);
    if limit.current != limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            ..limit
        };
        // Where this is refused the lower one counts, and is told.
        let _kept = setrlimit(Resource::Memlock, raised);
    }
}

/// A piece, and where it goes back to.
enum Place {
    Small(Piece, usize),
    Large(Pages, usize),
}

impl Place {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Small(piece, _) => piece.bytes(),
            Self::Large(pages, _) => pages.bytes(),
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Small(piece, _) => piece.bytes_mut(),
            Self::Large(pages, _) => pages.bytes_mut(),
        }
    }
}

/// What is mapped and free.
struct Pool {
    /// The best way to try.
    best: Keeping,
    small: [Vec<Piece>; SMALL.len()],
    /// Small ones in plain memory, which are given out where no better one is free.
    plain: [Vec<Piece>; SMALL.len()],
    large: [Vec<Pages>; LARGE.len()],
    idle_bytes: usize,
    /// Bytes in plain memory now.
    plain_bytes: usize,
    state: State,
}

impl Pool {
    const fn new(best: Keeping) -> Self {
        Self {
            best,
            small: [const { Vec::new() }; SMALL.len()],
            plain: [const { Vec::new() }; SMALL.len()],
            large: [const { Vec::new() }; LARGE.len()],
            idle_bytes: 0,
            plain_bytes: 0,
            state: State {
                secret_bytes: 0,
                locked_bytes: 0,
                plain_bytes: 0,
                refusal: None,
                limit: None,
            },
        }
    }

    /// A piece of at least so many bytes, all zeros; none where it is too long, or there is no memory.
    fn take(&mut self, bytes: usize) -> Option<Place> {
        if let Some(class) = SMALL.iter().position(|(size, _)| bytes <= *size) {
            return self
                .take_small(class)
                .map(|piece| Place::Small(piece, class));
        }
        let class = LARGE.iter().position(|size| bytes <= *size)?;
        if let Some(pages) = self.large.get_mut(class)?.pop() {
            self.idle_bytes = self.idle_bytes.saturating_sub(pages.bytes().len());
            return Some(Place::Large(pages, class));
        }
        let pages = self.map(*LARGE.get(class)?)?;
        Some(Place::Large(pages, class))
    }

    fn take_small(&mut self, class: usize) -> Option<Piece> {
        for free in [&mut self.small, &mut self.plain] {
            if let Some(piece) = free.get_mut(class)?.pop() {
                return Some(piece);
            }
        }
        let (size, count) = *SMALL.get(class)?;
        let pages = self.map(size * count)?;
        let free = self.free(pages.keeping(), class)?;
        free.extend(pages.into_pieces(size));
        free.pop()
    }

    /// Small pieces of a class that are free and kept like this.
    fn free(&mut self, keeping: Keeping, class: usize) -> Option<&mut Vec<Piece>> {
        match keeping {
            Keeping::Plain => self.plain.get_mut(class),
            Keeping::Locked | Keeping::Secret => self.small.get_mut(class),
        }
    }

    /// Takes back what was overwritten.
    fn give(&mut self, place: Place) {
        match place {
            Place::Small(piece, class) => {
                if let Some(free) = self.free(piece.keeping(), class) {
                    free.push(piece);
                }
            }
            Place::Large(pages, class) => self.give_large(pages, class),
        }
    }

    fn give_large(&mut self, pages: Pages, class: usize) {
        let bytes = pages.bytes().len();
        let is_kept = self.idle_bytes.saturating_add(bytes) <= MAX_IDLE_BYTES;
        // Plain ones go, so that the next value may have locked ones.
        match self.large.get_mut(class) {
            Some(free) if is_kept && pages.keeping() > Keeping::Plain => {
                self.idle_bytes += bytes;
                free.push(pages);
            }
            _ => {
                self.count(pages.keeping(), bytes, false);
                drop(pages);
            }
        }
    }

    /// Maps so many bytes as well as this process may.
    fn map(&mut self, bytes: usize) -> Option<Pages> {
        let mut refusal: Option<io::Error> = None;
        for keeping in [Keeping::Secret, Keeping::Locked, Keeping::Plain] {
            if keeping > self.best {
                continue;
            }
            match Pages::map(bytes, keeping) {
                Ok(pages) => {
                    self.count(keeping, pages.bytes().len(), true);
                    if keeping == Keeping::Plain {
                        self.tell(refusal);
                    }
                    return Some(pages);
                }
                Err(error) => {
                    if keeping == Keeping::Secret && is_lacking(&error) {
                        self.best = Keeping::Locked;
                    }
                    refusal = Some(error);
                }
            }
        }
        // It will be on the heap, which is plain memory too.
        self.state.plain_bytes = self.state.plain_bytes.max(bytes);
        self.tell(refusal);
        None
    }

    /// Keeps the first reason.
    fn tell(&mut self, refusal: Option<io::Error>) {
        if self.state.refusal.is_none() {
            self.state.refusal = refusal.map(|error| error.to_string());
        }
    }

    fn count(&mut self, keeping: Keeping, bytes: usize, is_more: bool) {
        let count = match keeping {
            Keeping::Secret => &mut self.state.secret_bytes,
            Keeping::Locked => &mut self.state.locked_bytes,
            Keeping::Plain => &mut self.plain_bytes,
        };
        *count = match is_more {
            true => count.saturating_add(bytes),
            false => count.saturating_sub(bytes),
        };
        self.state.plain_bytes = self.state.plain_bytes.max(self.plain_bytes);
    }
}

/// Whether the kernel, or who filters its calls, does not have it at all: there is no need to ask again.
fn is_lacking(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOSYS | libc::EPERM | libc::EACCES | libc::EINVAL)
    )
}

/// Bytes in locked memory, overwritten on drop.
pub struct LockedBytes {
    /// `None` where they are too many, or there is no memory: then they are on the heap.
    place: Option<Place>,
    heap: Vec<u8>,
    length: usize,
}

impl LockedBytes {
    /// So many zeros.
    #[must_use]
    pub fn zeroed(length: usize) -> Self {
        let place = pool().take(length);
        let heap = match place {
            Some(_) => Vec::new(),
            None => vec![0; length],
        };
        Self {
            place,
            heap,
            length,
        }
    }

    /// A copy of these.
    #[must_use]
    pub fn copied(bytes: &[u8]) -> Self {
        let mut copy = Self::zeroed(bytes.len());
        copy.bytes_mut().copy_from_slice(bytes);
        copy
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        let all: &[u8] = match &self.place {
            Some(place) => place.bytes(),
            None => &self.heap,
        };
        all.get(..self.length).unwrap_or_default()
    }

    /// The bytes, to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let all: &mut [u8] = match &mut self.place {
            Some(place) => place.bytes_mut(),
            None => &mut self.heap,
        };
        all.get_mut(..self.length).unwrap_or_default()
    }

    /// Keeps the first so many, and overwrites the rest.
    pub fn truncate(&mut self, length: usize) {
        if let Some(rest) = self.bytes_mut().get_mut(length..) {
            wipe_all(rest);
            self.length = length;
        }
    }
}

impl Drop for LockedBytes {
    fn drop(&mut self) {
        wipe_all(self.bytes_mut());
        if let Some(place) = self.place.take() {
            pool().give(place);
        }
    }
}

impl fmt::Debug for LockedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LockedBytes(…)")
    }
}

/// A value in locked memory, dropped and overwritten where it lies. Who makes one moves it there: a value that is
/// secret already when it is made leaves the copy that was moved, so fill it in place where that is possible.
pub struct Locked<T>(Option<Inner<T>>);

enum Inner<T> {
    Held(Held<T>, usize),
    /// It does not fit, or there is no memory.
    Heap(Box<T>),
}

impl<T> Locked<T> {
    /// Puts a value there.
    #[must_use]
    pub fn new(value: T) -> Self {
        let place = pool().take(size_of::<T>());
        let inner = match place {
            Some(Place::Small(piece, class)) => match piece.hold(value) {
                Ok(held) => Inner::Held(held, class),
                Err((piece, value)) => {
                    pool().give(Place::Small(piece, class));
                    Inner::Heap(Box::new(value))
                }
            },
            Some(large) => {
                pool().give(large);
                Inner::Heap(Box::new(value))
            }
            None => Inner::Heap(Box::new(value)),
        };
        Self(Some(inner))
    }
}

impl<T> Deref for Locked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Some(Inner::Held(held, _)) => held.get(),
            Some(Inner::Heap(value)) => value,
            // Only a drop takes it.
            None => std::process::abort(),
        }
    }
}

impl<T> DerefMut for Locked<T> {
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.0 {
            Some(Inner::Held(held, _)) => held.get_mut(),
            Some(Inner::Heap(value)) => value,
            // Only a drop takes it.
            None => std::process::abort(),
        }
    }
}

impl<T> Drop for Locked<T> {
    fn drop(&mut self) {
        if let Some(Inner::Held(held, class)) = self.0.take() {
            let piece = held.release();
            pool().give(Place::Small(piece, class));
        }
    }
}

impl<T> fmt::Debug for Locked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Locked(…)")
    }
}

#[cfg(test)]
mod tests;
