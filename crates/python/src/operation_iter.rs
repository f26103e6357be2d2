//! The iterator that `operation.__await__()` gives to Python code.
//!
//! `await` itself needs none: there the operation is its own iterator, which it must not be in the eyes of Python
//! code (a coroutine is awaited, not iterated over).

use crate::cpython::coroutine::Sent;
use crate::cpython::{Args, Class, Fallible, Home, Inst, Obj, Own, Raised, Ref, Slot, Spec, Visitor};
use crate::operation::{self, Operation};

/// The class `OperationIter`.
#[derive(Debug)]
pub struct OperationIter {
    operation: Slot,
}

static HOME: Home = Home::new();

impl Class for OperationIter {
    const NAME: &'static std::ffi::CStr = c"velodrome.OperationIter";
    const SUBCLASSED: bool = false;

    fn home() -> &'static Home {
        &HOME
    }

    fn fresh() -> OperationIter {
        OperationIter { operation: Slot::empty() }
    }

    fn traverse(this: &Inst<OperationIter>, visitor: &mut Visitor<'_>) {
        visitor.slot(&this.operation);
    }

    fn clear(this: &Inst<OperationIter>) {
        this.operation.clear();
    }
}

impl OperationIter {
    /// An iterator that drives this operation.
    pub fn over(operation: &Inst<Operation>) -> Fallible<Own<OperationIter>> {
        let iterator = Own::<OperationIter>::new()?;
        iterator.operation.set(operation.obj().own());
        Ok(iterator)
    }

    /// Does something with the operation.
    fn with<R>(&self, work: impl FnOnce(&Inst<Operation>) -> Fallible<R>) -> Fallible<R> {
        let operation = self.operation.get_or_none();
        match Inst::<Operation>::of(&operation) {
            Some(operation) => work(operation),
            None => Err(Raised::runtime_error("the iterator drives no coroutine")),
        }
    }
}

fn next(this: &Inst<OperationIter>) -> Fallible<Sent> {
    this.with(operation::next)
}

fn send(this: &Inst<OperationIter>, value: &Obj) -> Fallible<Ref> {
    this.with(|operation| operation::py_send(operation, value))
}

fn throw(this: &Inst<OperationIter>, args: Args<'_>) -> Fallible<Ref> {
    this.with(|operation| operation::py_throw(operation, args))
}

fn close(this: &Inst<OperationIter>) -> Fallible<Ref> {
    this.with(operation::py_close)
}

fn itself(this: &Inst<OperationIter>) -> Fallible<Ref> {
    Ok(this.obj().own())
}

/// Makes the class.
pub fn define() -> Fallible<Ref> {
    crate::cpython::spec::define::<OperationIter>(Spec {
        methods: class_methods!(OperationIter, "OperationIter";
            c"send" => one send, c"send($self, value, /)\n--\n\nResume the coroutine.";
            c"throw" => any throw,
                c"throw($self, typ, val=None, tb=None, /)\n--\n\nRaise an exception where the coroutine waits.";
            c"close" => none close, c"close($self, /)\n--\n\nEnd the coroutine.";
        ),
        slots: class_slots!(OperationIter, "OperationIter"; iter itself, next next),
        ..Spec::default()
    })
}
