//! Entries from C: every function that CPython calls is made by `entry!`.
//!
//! An entry runs a safe Rust function and turns its outcome into what C expects. A panic inside becomes a
//! `SystemError`, or a report to `sys.unraisablehook` where C has no way to hear of errors, and the loop goes on.
//!
//! With the feature `panic-test`, `_velodrome._arm_panic(name)` makes the entry of that name panic when it is
//! next called, and `_velodrome._entries()` lists the names.

use std::any::Any;
use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::object;
use super::raised::Raised;

/// Which entry it is: the class (or module) and the slot or method.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub owner: &'static str,
    pub name: &'static CStr,
}

impl Place {
    /// `owner.name`.
    pub fn path(&self) -> String {
        format!("{}.{}", self.owner, self.name.to_string_lossy())
    }
}

/// Runs the body of an entry that can raise; a panic raises `SystemError` and gives `failed`.
#[inline]
pub fn raising<R>(place: &'static Place, failed: R, body: impl FnOnce() -> R) -> R {
    match run(place, body) {
        Ok(value) => value,
        Err(payload) => {
            let _raised = raise_panic(place, &*payload);
            failed
        }
    }
}

/// Runs the body of an entry that cannot raise; a panic is reported and gives `failed`.
#[inline]
pub fn reporting<R>(place: &'static Place, failed: R, body: impl FnOnce() -> R) -> R {
    match run(place, body) {
        Ok(value) => value,
        Err(payload) => {
            // An exception on its way past this entry goes on.
            let pending = Raised::pending();
            raise_panic(place, &*payload).report(None);
            if let Some(exception) = pending {
                let _raised = Raised::from_exception(exception);
            }
            failed
        }
    }
}

/// Runs the body of an entry that may not even report (traversal by the garbage collector).
#[inline]
pub fn silent<R>(place: &'static Place, failed: R, body: impl FnOnce() -> R) -> R {
    run(place, body).unwrap_or(failed)
}

#[inline]
fn run<R>(place: &'static Place, body: impl FnOnce() -> R) -> Result<R, Box<dyn Any + Send>> {
    catch_unwind(AssertUnwindSafe(|| {
        panic_test::strike(place);
        body()
    }))
}

#[cold]
fn raise_panic(place: &Place, payload: &(dyn Any + Send)) -> Raised {
    let said = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| String::from("no message"));
    if let Some(pending) = Raised::if_any() {
        pending.discard();
    }
    Raised::new(object::system_error(), &format!("velodrome panicked in {}: {said}", place.path()))
}

/// Makes one entry. The four forms:
///
/// * `entry!(raising PLACE, (a: A, …) -> R, FAILED, body)` for functions that may raise;
/// * `entry!(reporting PLACE, …)` for functions that may not (deallocation, finalisation);
/// * `entry!(silent PLACE, …)` for traversal.
macro_rules! entry {
    ($mode:ident $owner:expr, $name:expr, ($($argument:ident : $type:ty),*) -> $return:ty, $failed:expr, $body:expr) => {{
        const PLACE: $crate::cpython::entry::Place = $crate::cpython::entry::Place { owner: $owner, name: $name };
        #[allow(unsafe_code)]
        unsafe extern "C" fn entry($($argument: $type),*) -> $return {
            static AT: $crate::cpython::entry::Place = PLACE;
            $crate::cpython::entry::$mode(&AT, $failed, move || $body)
        }
        $crate::cpython::entry::panic_test::record(&PLACE);
        entry as unsafe extern "C" fn($($type),*) -> $return
    }};
}

/// The test-only switch that makes entries panic.
pub mod panic_test {
    use super::Place;

    #[cfg(feature = "panic-test")]
    mod armed {
        use std::sync::Mutex;

        pub(super) static ENTRIES: Mutex<Vec<String>> = Mutex::new(Vec::new());
        pub(super) static ARMED: Mutex<Option<String>> = Mutex::new(None);
    }

    /// Notes that there is such an entry.
    #[inline]
    pub fn record(place: &Place) {
        #[cfg(feature = "panic-test")]
        if let Ok(mut entries) = armed::ENTRIES.lock() {
            entries.push(place.path());
        }
        let _ = place;
    }

    /// Panics if this entry is armed, once.
    #[inline]
    pub fn strike(place: &Place) {
        #[cfg(feature = "panic-test")]
        {
            let path = place.path();
            let struck = armed::ARMED.lock().is_ok_and(|mut armed| {
                let hit = armed.as_deref() == Some(path.as_str());
                if hit {
                    *armed = None;
                }
                hit
            });
            assert!(!struck, "armed");
        }
        let _ = place;
    }

    /// All entries, by path.
    #[cfg(feature = "panic-test")]
    pub fn entries() -> Vec<String> {
        armed::ENTRIES.lock().map(|entries| entries.clone()).unwrap_or_default()
    }

    /// Arms an entry, or none; returns what was armed and has not struck.
    #[cfg(feature = "panic-test")]
    pub fn arm(path: Option<String>) -> Option<String> {
        armed::ARMED.lock().ok().and_then(|mut armed| std::mem::replace(&mut *armed, path))
    }
}
