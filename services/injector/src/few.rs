//! A map of a few entries, in the room that they need: of a tree, the first entry takes the room of eleven, and a
//! host has hundreds of containers with one each.
//!
//! Invariant: keys are sorted, each there once. Every look walks over it; it is not for many.

/// See the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Few<K, V>(Vec<(K, V)>);

impl<K, V> Default for Few<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: Ord, V> Few<K, V> {
    fn place(&self, key: &K) -> Result<usize, usize> {
        self.0.binary_search_by(|(one, _)| one.cmp(key))
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        let place = self.place(key).ok()?;
        self.0.get(place).map(|(_, value)| value)
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let place = self.place(key).ok()?;
        self.0.get_mut(place).map(|(_, value)| value)
    }

    pub(crate) fn contains_key(&self, key: &K) -> bool {
        self.place(key).is_ok()
    }

    /// What was there before.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        if let Some(held) = self.get_mut(&key) {
            return Some(std::mem::replace(held, value));
        }
        let (Ok(place) | Err(place)) = self.place(&key);
        self.0.reserve_exact(1);
        self.0.insert(place, (key, value));
        None
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let place = self.place(key).ok()?;
        Some(self.0.remove(place).1)
    }
}

impl<K, V> Few<K, V> {
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.0.iter().map(|(key, _)| key)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.0.iter().map(|(_, value)| value)
    }
}

#[cfg(test)]
impl<K, V> Few<K, V> {
    pub(crate) const fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.0.iter_mut().map(|(_, value)| value)
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for Few<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut few = Self::default();
        for (key, value) in entries {
            few.insert(key, value);
        }
        few
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn it_does_what_a_tree_does_in_no_more_room_than_it_needs() {
        let (mut few, mut tree) = (Few::default(), BTreeMap::new());
        assert!(few.is_empty());
        for (key, value) in [(3, 'a'), (1, 'b'), (2, 'c'), (3, 'd'), (0, 'e')] {
            assert_eq!(few.insert(key, value), tree.insert(key, value));
            assert!(few.iter().eq(&tree));
            assert_eq!(few.0.capacity(), tree.len());
        }
        for key in 0..5 {
            assert_eq!(few.get(&key), tree.get(&key));
            assert_eq!(few.get_mut(&key), tree.get_mut(&key));
            assert_eq!(few.contains_key(&key), tree.contains_key(&key));
        }
        for key in [2, 7] {
            assert_eq!(few.remove(&key), tree.remove(&key));
        }
        assert!(few.keys().eq(tree.keys()) && few.values().eq(tree.values()));
        assert_eq!(few, tree.into_iter().rev().collect());
    }
}
