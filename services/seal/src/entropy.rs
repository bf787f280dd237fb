//! The randomness port and its one real source, the operating system (K8).
//!
//! Owns the only call of the OS generator in the workspace. No seed is kept in user space; each
//! key and each nonce asks again. It does not decide what randomness is used for.

/// A source of bytes nobody can predict.
///
/// Law: every call fills the whole buffer, and no output repeats except by chance. Tests may pass a
/// predictable source; nothing else may.
pub trait Entropy: Send + Sync {
    /// Fills `buf` completely.
    fn fill(&self, buf: &mut [u8]);
}

/// The operating system's generator.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    /// Fills `buf` from the operating system. A machine that cannot give randomness cannot make a
    /// key either, so the program stops here rather than go on with a predictable buffer.
    fn fill(&self, buf: &mut [u8]) {
        if getrandom::fill(buf).is_err() {
            std::process::abort();
        }
    }
}

/// A fresh array from `entropy`.
pub(crate) fn array<const N: usize>(entropy: &dyn Entropy) -> [u8; N] {
    let mut out = [0; N];
    entropy.fill(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_draws_differ() {
        let first: [u8; 32] = array(&OsEntropy);
        let second: [u8; 32] = array(&OsEntropy);
        assert_ne!(first, second);
        assert_ne!(first, [0; 32]);
    }
}
