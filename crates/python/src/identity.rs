//! Sets of objects by identity, in the order in which they came.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::cpython::{Obj, Ref, Visitor};

/// Addresses are spread well enough by one multiplication.
#[derive(Default)]
pub struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_usize(usize::from(*byte));
        }
    }

    #[inline]
    fn write_usize(&mut self, address: usize) {
        self.0 = (self.0 ^ address as u64 >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// See the file.
#[derive(Default)]
pub struct IdentitySet {
    places: HashMap<usize, (u64, Ref), BuildHasherDefault<AddressHasher>>,
    next: u64,
}

impl std::fmt::Debug for IdentitySet {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("IdentitySet").field("len", &self.places.len()).finish()
    }
}

fn address(object: &Obj) -> usize {
    std::ptr::from_ref(object) as usize
}

impl IdentitySet {
    /// With room for so many.
    pub fn with_capacity(count: usize) -> IdentitySet {
        IdentitySet {
            places: HashMap::with_capacity_and_hasher(count, BuildHasherDefault::default()),
            next: 0,
        }
    }

    /// Adds an object; says whether it is new.
    #[inline]
    pub fn insert(&mut self, object: &Obj) -> bool {
        let next = self.next;
        let mut new = false;
        self.places.entry(address(object)).or_insert_with(|| {
            new = true;
            (next, object.own())
        });
        self.next += u64::from(new);
        new
    }

    /// Removes an object; the caller drops it.
    #[inline]
    pub fn remove(&mut self, object: &Obj) -> Option<Ref> {
        self.places.remove(&address(object)).map(|(_, object)| object)
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// All of them, in order.
    pub fn list(&self) -> Vec<Ref> {
        let mut all: Vec<_> = self.places.values().cloned().collect();
        all.sort_by_key(|(place, _)| *place);
        all.into_iter().map(|(_, object)| object).collect()
    }

    /// Shows them to the garbage collector.
    pub fn traverse(&self, visitor: &mut Visitor<'_>) {
        self.places.values().for_each(|(_, object)| visitor.object(object));
    }
}
