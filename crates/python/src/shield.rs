//! `shield`: a future that can be cancelled without what it stands for being cancelled.

use std::cell::Cell;

use crate::cpython::global::Global;
use crate::cpython::object::{self, none};
use crate::cpython::{Args, Class, Fallible, Home, Inst, Obj, Own, Ref, Signature, Slot, Spec, Visitor};
use crate::ensure_future::{ensure_future, loop_of};
use crate::gather::{Retrieved, retrieve};
use crate::listener::{Listener, Listens, Told, listen, unlisten};
use crate::registry;
use crate::state::state;
use crate::waiters;

/// What connects the inner and the outer future. It is told of both.
#[derive(Debug)]
pub struct Shielding {
    inner: Slot,
    outer: Slot,
    /// The task that shields, for who awaits whom.
    current_task: Slot,
    /// The inner future has a listener of its own for that, which comes first.
    awaited: Cell<bool>,
    told: Told,
}

static HOME: Home = Home::new();

impl Class for Shielding {
    const NAME: &'static std::ffi::CStr = c"velodrome.shield";
    const SUBCLASSED: bool = false;

    fn home() -> &'static Home {
        &HOME
    }

    fn fresh() -> Shielding {
        Shielding {
            inner: Slot::empty(),
            outer: Slot::empty(),
            current_task: Slot::empty(),
            awaited: Cell::new(false),
            told: Told::default(),
        }
    }

    fn traverse(this: &Inst<Shielding>, visitor: &mut Visitor<'_>) {
        for slot in [&this.inner, &this.outer, &this.current_task] {
            visitor.slot(slot);
        }
        this.told.traverse(visitor);
    }

    fn clear(this: &Inst<Shielding>) {
        for slot in [&this.inner, &this.outer, &this.current_task] {
            slot.clear();
        }
        this.told.clear();
    }
}

impl Listens for Shielding {
    const METHOD: &'static std::ffi::CStr = c"_done_callback";

    fn told(&self) -> &Told {
        &self.told
    }

    fn hear(this: &Inst<Shielding>, future: &Obj) -> Fallible<()> {
        if this.outer.holds(future) {
            return outer_done(this);
        }
        if this.awaited.replace(false) {
            return forget(this, future);
        }
        inner_done(this, future)
    }
}

static CURRENT_TASK: Global<Ref> = Global::new();

fn forget(this: &Inst<Shielding>, inner: &Obj) -> Fallible<()> {
    match this.current_task.get() {
        Some(task) => registry::forget_awaited(inner, &task),
        None => Ok(()),
    }
}

fn inner_done(this: &Inst<Shielding>, inner: &Obj) -> Fallible<()> {
    let outer = this.outer.get_or_none();
    if waiters::is_cancelled(&outer)? {
        // Before 3.14, nobody is told of the inner exception then.
        return if state().minor < 14 { retrieve(inner).map(drop) } else { Ok(()) };
    }
    match retrieve(inner)? {
        Retrieved::Cancelled => waiters::cancel(&outer),
        Retrieved::Failed(exception) => {
            outer.call_method(&*object::interned(c"set_exception")?, &[&exception]).map(drop)
        }
        Retrieved::Well => waiters::set_result(&outer, &*inner.call_method(&state().names.result, &[])?),
    }
}

fn outer_done(this: &Inst<Shielding>) -> Fallible<()> {
    let inner = this.inner.get_or_none();
    if waiters::is_done(&inner)? {
        return Ok(());
    }
    unlisten(&inner, &Listener::Shield(this.own()))?;
    forget(this, &inner)
}

/// `shield(arg)`.
pub fn py_shield(args: Args<'_>) -> Fallible<Ref> {
    let [awaitable] =
        args.parse(&Signature { function: "shield", names: ["arg"], positional: 1, required: 1 })?;
    let inner = ensure_future(awaitable.unwrap_or(none()), None)?;
    if waiters::is_done(&inner)? {
        return Ok(inner);
    }
    let event_loop = loop_of(&inner)?;
    let outer = waiters::create_future(&event_loop)?;
    let this = Own::<Shielding>::new()?;
    this.inner.set(inner.clone());
    this.outer.set(outer.clone());
    if state().registers.add_awaited_by.is_some() {
        let task = registry::current_task_of(&event_loop, CURRENT_TASK.get())?;
        if !task.is_none() {
            registry::note_awaited(&inner, &task)?;
            this.current_task.set(task);
            this.awaited.set(true);
            listen(&inner, Listener::Shield(this.clone()))?;
        }
    }
    listen(&inner, Listener::Shield(this.clone()))?;
    listen(&outer, Listener::Shield(this))?;
    Ok(outer)
}

fn py_done_callback(this: &Inst<Shielding>, future: &Obj) -> Fallible<Ref> {
    Shielding::hear(this, future)?;
    Ok(none().own())
}

/// Makes the class.
pub fn define() -> Fallible<()> {
    CURRENT_TASK.set(object::interned(c"current_task")?);
    crate::cpython::spec::define::<Shielding>(Spec {
        methods: class_methods!(Shielding, "Shielding";
            c"_done_callback" => one py_done_callback,
                c"_done_callback($self, future, /)\n--\n\nHear that one of both futures is done.";
        ),
        slots: class_slots!(Shielding, "Shielding";),
        ..Spec::default()
    })
    .map(drop)
}
