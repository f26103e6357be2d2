//! Sets of objects by identity, in the order in which they came.

use crate::cpython::{Obj, Ref, Visitor};

/// Where objects stand in a list, found by their addresses: an open table of places, with 0 for none.
#[derive(Debug, Default)]
pub struct Places(Vec<u32>);

impl Places {
    /// A table for so many objects, which is never more than half full.
    pub fn of(count: usize) -> Places {
        Places(vec![0; (2 * count).next_power_of_two()])
    }

    /// How many objects there is room for.
    fn room(&self) -> usize {
        self.0.len() / 2
    }

    /// The place of an object, or else notes that it is this one. `stands_at` says whether the object stands at a place.
    #[inline]
    pub fn find_or_note(
        &mut self,
        object: &Obj,
        place: usize,
        stands_at: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let index = self.find(object, stands_at);
        match self.0[index] {
            0 => {
                self.0[index] = place as u32 + 1;
                None
            }
            found => Some(found as usize - 1),
        }
    }

    /// Where in the table an object's place is, or would be.
    #[inline]
    fn find(&self, object: &Obj, stands_at: impl Fn(usize) -> bool) -> usize {
        let mask = self.0.len() - 1;
        // Addresses are spread well enough by one multiplication.
        let spread = (std::ptr::from_ref(object) as u64 >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut index = (spread >> 32) as usize & mask;
        while self.0[index] != 0 && !stands_at(self.0[index] as usize - 1) {
            index = (index + 1) & mask;
        }
        index
    }
}

/// See the file.
#[derive(Default)]
pub struct IdentitySet {
    /// In order; what was removed leaves a gap.
    objects: Vec<Option<Ref>>,
    places: Places,
    count: usize,
}

impl std::fmt::Debug for IdentitySet {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("IdentitySet").field("len", &self.count).finish()
    }
}

impl IdentitySet {
    /// Adds an object; says whether it is new.
    #[inline]
    pub fn insert(&mut self, object: &Obj) -> bool {
        if self.objects.len() == self.places.room() {
            self.make_room();
        }
        let (place, objects) = (self.objects.len(), &self.objects);
        if self.places.find_or_note(object, place, |place| stands_at(objects, place, object)).is_some() {
            return false;
        }
        self.objects.push(Some(object.own()));
        self.count += 1;
        true
    }

    /// Closes the gaps, and makes a table for twice as many as there are.
    #[inline(never)]
    fn make_room(&mut self) {
        self.objects.retain(Option::is_some);
        self.places = Places::of((2 * self.count).max(8));
        for (place, object) in self.objects.iter().flatten().enumerate() {
            self.places.find_or_note(object, place, |_| false);
        }
    }

    /// Removes an object; the caller drops it.
    #[inline]
    pub fn remove(&mut self, object: &Obj) -> Option<Ref> {
        if self.count == 0 {
            return None;
        }
        let index = self.places.find(object, |place| stands_at(&self.objects, place, object));
        let place = (self.places.0[index] as usize).checked_sub(1)?;
        self.count -= 1;
        self.objects[place].take()
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.count
    }

    /// All of them, in order.
    pub fn list(&self) -> Vec<Ref> {
        self.objects.iter().flatten().cloned().collect()
    }

    /// Shows them to the garbage collector.
    pub fn traverse(&self, visitor: &mut Visitor<'_>) {
        self.objects.iter().flatten().for_each(|object| visitor.object(object));
    }
}

/// Whether this object stands at this place.
#[inline]
fn stands_at(objects: &[Option<Ref>], place: usize, object: &Obj) -> bool {
    objects[place].as_ref().is_some_and(|other| other.is(object))
}
