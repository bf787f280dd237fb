//! Sealed values that running containers were started with, for as long as they run.
//!
//! Owns where they are, so that each can be sealed anew when a key of the host goes; it opens none.
//! Invariants: a version is here once, whatever number of containers has it; it goes with the last one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::shared::{Sealed, VersionKey};

/// A value as it is sealed now.
pub(crate) struct KeptValue(Mutex<Arc<Sealed>>);

impl KeptValue {
    pub(crate) fn sealed(&self) -> Arc<Sealed> {
        Arc::clone(&lock(&self.0))
    }
}

impl std::fmt::Debug for KeptValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeptValue(..)")
    }
}

/// All of them, of this host.
#[derive(Default)]
pub(crate) struct KeptValues(Mutex<BTreeMap<VersionKey, Weak<KeptValue>>>);

impl KeptValues {
    /// Keeps it until the last that is returned for this version goes.
    pub(crate) fn keep(&self, key: VersionKey, sealed: Arc<Sealed>) -> Arc<KeptValue> {
        let mut all = lock(&self.0);
        all.retain(|_, kept| kept.strong_count() > 0);
        if let Some(kept) = all.get(&key).and_then(Weak::upgrade) {
            return kept;
        }
        let kept = Arc::new(KeptValue(Mutex::new(sealed)));
        all.insert(key, Arc::downgrade(&kept));
        kept
    }

    /// Puts another in the place of each for which `anew` has one.
    pub(crate) fn replace(&self, anew: impl Fn(VersionKey, &Sealed) -> Option<Arc<Sealed>>) {
        let all = lock(&self.0);
        for (key, kept) in all.iter() {
            let Some(kept) = kept.upgrade() else { continue };
            let mut sealed = lock(&kept.0);
            if let Some(anew) = anew(*key, &sealed) {
                *sealed = anew;
            }
        }
    }
}

fn lock<T>(inner: &Mutex<T>) -> MutexGuard<'_, T> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use keywheel_core::id::{DeliveryId, SecretId};
    use keywheel_engine::delivery;
    use keywheel_member::SealingKeys;
    use keywheel_seal::{OsEntropy, SecretBytes, hpke};
    use keywheel_testkit::fake::FakeClock;

    use super::*;

    fn sealed(text: &[u8]) -> Arc<Sealed> {
        Arc::new(Sealed::Kept(text.to_vec()))
    }

    fn text(kept: &KeptValue) -> Vec<u8> {
        match &*kept.sealed() {
            Sealed::Kept(bytes) => bytes.clone(),
            Sealed::ToHost { .. } => panic!("not kept"),
        }
    }

    #[test]
    fn a_version_is_kept_once_sealed_anew_everywhere_and_goes_with_the_last() {
        let all = KeptValues::default();
        let key = (SecretId::from_bytes([1; 16]), 1);
        let other = (SecretId::from_bytes([1; 16]), 2);
        let first = all.keep(key, sealed(b"one"));
        let second = all.keep(key, sealed(b"the same, sealed again"));
        let third = all.keep(other, sealed(b"two"));
        assert!(Arc::ptr_eq(&first, &second));
        all.replace(|one, _| (one == key).then(|| sealed(b"anew")));
        assert_eq!(
            (text(&first), text(&second)),
            (b"anew".to_vec(), b"anew".to_vec())
        );
        assert_eq!(text(&third), b"two");
        drop((first, second));
        assert_eq!(text(&all.keep(key, sealed(b"later"))), b"later");
    }

    #[tokio::test]
    async fn what_is_kept_opens_after_its_key_went_though_no_plan_names_it() {
        let shared = crate::metrics::tests::shared(&Arc::new(FakeClock::default()));
        let key = (SecretId::from_bytes([1; 16]), 1);
        let delivery = DeliveryId::from_bytes([3; 16]);
        let info = delivery::info(shared.options.deployment, shared.options.host);
        let aad = delivery::aad(delivery, key.0, key.1);
        let value = SecretBytes::from(b"value".to_vec());
        let to = shared.keys.public().unwrap();
        let envelope = hpke::seal(&to, &info, &aad, &value, &OsEntropy).unwrap();
        let kept = Sealed::ToHost { envelope, delivery };
        let kept = shared.kept.keep(key, Arc::new(kept));
        assert!(!shared.has_value(key));
        let before = kept.sealed();
        assert!(shared.open(key, &before).is_ok());
        let newer = hpke::HostKeyPair::generate(&OsEntropy);
        shared.keys.add(2, newer);
        shared.keys.supersede(2);
        SealingKeys::destroy(&*shared, 1);
        assert!(shared.open(key, &before).is_err());
        let opened = shared.open(key, &kept.sealed()).unwrap();
        assert_eq!(opened.expose(), b"value");
    }
}
