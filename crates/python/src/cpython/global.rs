//! Python objects that the whole module shares: made at import, and never given up.

use std::sync::OnceLock;

/// A value made at import.
#[derive(Debug)]
pub struct Global<T>(OnceLock<T>);

// SAFETY: the value is reached only with the GIL held (see the room's rules), which is what serialises all access to
// Python objects; setting it goes through the lock.
unsafe impl<T> Sync for Global<T> {}

impl<T> Global<T> {
    /// Not made yet.
    pub const fn new() -> Global<T> {
        Global(OnceLock::new())
    }

    /// Sets the value; the first one stays.
    pub fn set(&self, value: T) {
        let _ = self.0.set(value);
    }

    /// The value.
    ///
    /// # Panics
    /// Before import has set it, which no entry can precede.
    #[inline]
    pub fn get(&'static self) -> &'static T {
        self.0.get().expect("the module is imported")
    }
}

impl<T> Default for Global<T> {
    fn default() -> Global<T> {
        Global::new()
    }
}
