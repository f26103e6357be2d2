//! The one room of raw CPython.
//!
//! Everything `unsafe` of the Python face is in this folder, behind interfaces that safe code cannot misuse:
//! references that own their count ([`Ref`], [`Own`]) or borrow it ([`Obj`], [`Inst`]), classes ([`Class`]),
//! entries from C ([`entry`]), contexts, and the parts of asyncio's own C structures that programs outside read
//! ([`layout`]).
//!
//! What must stay true:
//!
//! * **The GIL is held wherever an `Obj` can be named.** `Obj` and all that refers to one is neither `Send` nor
//!   `Sync`, and the only place that lets go of the GIL ([`gil::released`]) takes a `Send` closure. So methods
//!   here need no token that proves it.
//! * **A [`Raised`] means that the thread's error indicator is set**, and is the only way to say so.
//! * **Dropping a reference can run Python.** A slot gives its old value up before the new one is in place for
//!   all to see, and nothing is borrowed meanwhile.
//! * **No thread ends in the middle of our frames.** What can run Python or give up the GIL is called through [`ffi`].
//! * **No panic leaves.** Every function that C calls is made by the `entry!` macro, which catches.

#[macro_use]
pub mod entry;
#[macro_use]
pub mod metaclass;
#[macro_use]
pub mod module;
#[macro_use]
pub mod tables;
pub mod address;
pub mod args;
pub mod builtin_exceptions;
pub mod bytes;
pub mod call;
pub mod class;
pub mod container;
pub mod context;
pub mod coroutine;
pub mod descriptor;
pub mod ffi;
pub mod function;
pub mod gil;
pub mod global;
pub mod handle_slots;
mod heap;
pub mod host;
pub mod layout;
pub mod member;
pub mod mro;
pub mod object;
pub mod openssl;
pub mod pipe;
pub mod prefetch;
pub mod raised;
pub mod recursion;
pub mod slot;
pub mod socket;
pub mod spare_bytes;
pub mod spec;
pub mod stop_iteration;
pub mod transport_slots;

pub use args::{Args, Signature};
pub use class::{Base, Class, Home, Inst, Own, Visitor};
pub use object::{Obj, Ref};
pub use raised::{Fallible, Raised};
pub use slot::Slot;
pub use spec::Spec;
