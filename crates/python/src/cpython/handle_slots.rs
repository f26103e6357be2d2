//! The `__slots__` of `asyncio.Handle`, used as the fields of our handles.
//!
//! Our handles derive from asyncio's and keep everything where it keeps it, so that all who read or replace
//! `_callback`, `_args` or `_cancelled` see and change the real thing, and no word is stored twice.

use super::class::{Class, Inst};
use super::member::Offset;
use super::object::Obj;
use super::raised::Fallible;
use super::slot::Slot;

/// A class of ours that derives from `asyncio.Handle`.
///
/// # Safety
/// It does: its base is `asyncio.Handle` or derives from it.
#[allow(unsafe_code)]
pub unsafe trait HandleLayout: Class {}

/// A class of ours that derives from `asyncio.TimerHandle`.
///
/// # Safety
/// It does.
#[allow(unsafe_code)]
pub unsafe trait TimerLayout: HandleLayout {}

/// A class of ours that derives from `asyncio.events._ThreadSafeHandle`.
///
/// # Safety
/// It does.
#[allow(unsafe_code)]
pub unsafe trait ThreadSafeLayout: HandleLayout {}

macro_rules! slots {
    ($($layout:ident $find:ident { $($static:ident $method:ident $name:literal;)* })*) => {$(
        $(static $static: Offset = Offset::unknown();)*

        impl<T: $layout> Inst<T> {
            $(
                #[doc = concat!("The slot of `", stringify!($method), "`.")]
                #[inline]
                pub fn $method(&self) -> &Slot {
                    // SAFETY: the class derives from the one whose slot it is, as its layout trait says.
                    unsafe { $static.of(self) }
                }
            )*
        }

        /// Finds the slots that this class of asyncio's adds. Called once, at import.
        pub fn $find(class: &Obj) -> Fallible<()> {
            $($static.find(class, $name)?;)*
            Ok(())
        }
    )*};
}

slots! {
    HandleLayout find_in_handle {
        CALLBACK callback_slot c"_callback";
        ARGS args_slot c"_args";
        CANCELLED cancelled_slot c"_cancelled";
        LOOP loop_slot c"_loop";
        SOURCE_TRACEBACK source_traceback_slot c"_source_traceback";
        REPR repr_slot c"_repr";
        CONTEXT context_slot c"_context";
    }
    TimerLayout find_in_timer_handle {
        SCHEDULED scheduled_slot c"_scheduled";
        WHEN when_slot c"_when";
    }
    ThreadSafeLayout find_in_thread_safe_handle {
        LOCK lock_slot c"_lock";
    }
}

#[allow(unsafe_code)]
mod layouts {
    use crate::handle::Handle;
    use crate::thread_safe_handle::ThreadSafeHandle;
    use crate::timer_handle::TimerHandle;

    // SAFETY: `handle::define` gives it the base `asyncio.Handle`.
    unsafe impl super::HandleLayout for Handle {}
    // SAFETY: `timer_handle::define` gives it the base `asyncio.TimerHandle`, which derives from `asyncio.Handle`.
    unsafe impl super::HandleLayout for TimerHandle {}
    // SAFETY: the same.
    unsafe impl super::TimerLayout for TimerHandle {}
    // SAFETY: `thread_safe_handle::define` gives it the base `_ThreadSafeHandle`, which derives from `asyncio.Handle`.
    unsafe impl super::HandleLayout for ThreadSafeHandle {}
    // SAFETY: the same.
    unsafe impl super::ThreadSafeLayout for ThreadSafeHandle {}
}
