//! The iterator that `sleep(…).__await__()` gives to Python code.
//!
//! `await` itself needs none: there the sleep is its own iterator, which it must not be in the eyes of Python code (a
//! coroutine is awaited, not iterated over).

use crate::cpython::coroutine::Sent;
use crate::cpython::{Args, Class, Fallible, Home, Inst, Obj, Own, Raised, Ref, Slot, Spec, Visitor};
use crate::sleep::{self, Sleep};

/// The class `SleepIter`.
#[derive(Debug)]
pub struct SleepIter {
    sleep: Slot,
}

static HOME: Home = Home::new();

impl Class for SleepIter {
    const NAME: &'static std::ffi::CStr = c"velodrome.SleepIter";
    const SUBCLASSED: bool = false;

    fn home() -> &'static Home {
        &HOME
    }

    fn fresh() -> SleepIter {
        SleepIter { sleep: Slot::empty() }
    }

    fn traverse(this: &Inst<SleepIter>, visitor: &mut Visitor<'_>) {
        visitor.slot(&this.sleep);
    }

    fn clear(this: &Inst<SleepIter>) {
        this.sleep.clear();
    }
}

impl SleepIter {
    /// An iterator that drives this sleep.
    pub fn over(sleep: &Inst<Sleep>) -> Fallible<Own<SleepIter>> {
        let iterator = Own::<SleepIter>::new()?;
        iterator.sleep.set(sleep.obj().own());
        Ok(iterator)
    }

    /// Does something with the sleep.
    fn with<R>(&self, work: impl FnOnce(&Inst<Sleep>) -> Fallible<R>) -> Fallible<R> {
        let sleep = self.sleep.get_or_none();
        match Inst::<Sleep>::of(&sleep) {
            Some(sleep) => work(sleep),
            None => Err(Raised::runtime_error("the iterator drives no coroutine")),
        }
    }
}

fn next(this: &Inst<SleepIter>) -> Fallible<Sent> {
    this.with(sleep::next)
}

fn send(this: &Inst<SleepIter>, value: &Obj) -> Fallible<Ref> {
    this.with(|sleep| sleep::py_send(sleep, value))
}

fn throw(this: &Inst<SleepIter>, args: Args<'_>) -> Fallible<Ref> {
    this.with(|sleep| sleep::py_throw(sleep, args))
}

fn close(this: &Inst<SleepIter>) -> Fallible<Ref> {
    this.with(sleep::py_close)
}

fn itself(this: &Inst<SleepIter>) -> Fallible<Ref> {
    Ok(this.obj().own())
}

/// Makes the class.
pub fn define() -> Fallible<Ref> {
    crate::cpython::spec::define::<SleepIter>(Spec {
        methods: class_methods!(SleepIter, "SleepIter";
            c"send" => one send, c"send($self, value, /)\n--\n\nResume the coroutine.";
            c"throw" => any throw,
                c"throw($self, typ, val=None, tb=None, /)\n--\n\nRaise an exception where the coroutine waits.";
            c"close" => none close, c"close($self, /)\n--\n\nEnd the coroutine.";
        ),
        slots: class_slots!(SleepIter, "SleepIter"; iter itself, next next),
        ..Spec::default()
    })
}
