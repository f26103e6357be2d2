//! `gather`: one future for the results of many.
//!
//! The outer future is a `_GatheringFuture`, a class derived from ours that only has another name; what it knows of
//! its children is in a [`Gathering`], which is also told when they are done.

use std::cell::{Cell, RefCell};

use crate::cpython::coroutine;
use crate::cpython::global::Global;
use crate::cpython::object::{self, boolean, none};
use crate::cpython::{Args, Class, Fallible, Home, Inst, Obj, Own, Ref, Slot, Spec, Visitor};
use crate::ensure_future::{ensure_future, loop_of};
use crate::future::{self, Future, FutureLike};
use crate::identity::Places;
use crate::listener::{Listener, Listens, Told, listen};
use crate::operation::Operation;
use crate::original::Code;
use crate::registry;
use crate::state::state;
use crate::task::{self, Task};
use crate::waiters::{self, is_done};

/// A gathering that is under way.
#[derive(Debug)]
pub struct Gathering {
    /// As they were given; the same one may be there twice.
    children: RefCell<Vec<Ref>>,
    /// How many different ones there are, and how many of them are done.
    count: Cell<usize>,
    finished: Cell<usize>,
    /// The outer future; empty before it is made and after it is done.
    outer: RefCell<Option<Own<Future>>>,
    /// The task that gathers, for who awaits whom; empty if that is not kept.
    current_task: Slot,
    return_exceptions: Cell<bool>,
    cancel_requested: Cell<bool>,
    told: Told,
}

static HOME: Home = Home::new();

impl Class for Gathering {
    const NAME: &'static std::ffi::CStr = c"velodrome.gather";
    const SUBCLASSED: bool = false;

    fn home() -> &'static Home {
        &HOME
    }

    fn fresh() -> Gathering {
        Gathering {
            children: RefCell::default(),
            count: Cell::new(0),
            finished: Cell::new(0),
            outer: RefCell::default(),
            current_task: Slot::empty(),
            return_exceptions: Cell::new(false),
            cancel_requested: Cell::new(false),
            told: Told::default(),
        }
    }

    fn traverse(this: &Inst<Gathering>, visitor: &mut Visitor<'_>) {
        if let Ok(children) = this.children.try_borrow() {
            children.iter().for_each(|child| visitor.object(child));
        }
        if let Ok(Some(outer)) = this.outer.try_borrow().as_deref() {
            visitor.object(outer.obj());
        }
        visitor.slot(&this.current_task);
        this.told.traverse(visitor);
    }

    fn clear(this: &Inst<Gathering>) {
        drop(this.children.take());
        drop(this.outer.take());
        this.current_task.clear();
        this.told.clear();
    }
}

impl Listens for Gathering {
    const METHOD: &'static std::ffi::CStr = c"_done_callback";

    fn told(&self) -> &Told {
        &self.told
    }

    #[inline]
    fn hear(this: &Inst<Gathering>, child: &Obj) -> Fallible<()> {
        child_done(this, child)
    }
}

/// What is looked up once.
#[derive(Debug)]
struct Known {
    outer_class: Ref,
    current_task: Ref,
    /// Whether this version takes children that are done already at once (from 3.12 on).
    at_once: bool,
    /// Whether all have to be of the running loop (from 3.14 on), or of that of the first.
    on_running_loop: bool,
    /// Whether this version notes who awaits whom, and forgets it of all children when one fails.
    awaited_by: bool,
    forgets_all: bool,
}

static KNOWN: Global<Known> = Global::new();

/// Whether this is the outer future of a gathering.
#[inline]
pub fn is_outer(object: &Obj) -> bool {
    object.is_exactly(&KNOWN.get().outer_class)
}

/// Cancels the children of an outer future; says whether there was one to cancel.
pub fn cancel(gathering: &Obj, message: Option<&Obj>) -> Fallible<bool> {
    let Some(this) = Inst::<Gathering>::exactly(gathering) else { return Ok(false) };
    let mut cancelled = false;
    let children = this.children.borrow().clone();
    for child in children {
        cancelled |= cancel_child(&child, message)?;
    }
    if cancelled {
        this.cancel_requested.set(true);
    }
    Ok(cancelled)
}

/// `child.cancel(msg=message)`.
fn cancel_child(child: &Obj, message: Option<&Obj>) -> Fallible<bool> {
    if let Some(outcome) = task::cancel_ours(child, message) {
        return outcome;
    }
    let message = message.unwrap_or(none());
    child.call_method_with_keywords(&state().names.cancel, &[message], &state().msg_keyword)?.truthy()
}

/// What sees whether an awaitable was given before.
enum Seen {
    /// All compare by identity.
    ByIdentity(Places),
    /// Some may compare otherwise: a dictionary of Python's.
    ByEquality(Ref),
}

/// Whether an awaitable is of a kind that compares by identity.
fn compares_by_identity(awaitable: &Obj) -> bool {
    coroutine::is_native(awaitable)
        || Inst::<Task>::exactly(awaitable).is_some()
        || Inst::<Future>::exactly(awaitable).is_some()
        || Inst::<Operation>::exactly(awaitable).is_some()
}

/// `gather(*coros_or_futures, return_exceptions=False)`.
pub fn py_gather(args: Args<'_>) -> Fallible<Ref> {
    let (awaitables, return_exceptions) = args.variadic("gather", &[], Some("return_exceptions"))?;
    gather(&awaitables, return_exceptions.map_or(Ok(false), Obj::truthy)?)
}

/// The future of the list of all results.
pub fn gather(awaitables: &[&Obj], return_exceptions: bool) -> Fallible<Ref> {
    if awaitables.is_empty() {
        let outer = state().get_event_loop()?.call_method(&state().names.create_future, &[])?;
        crate::waiters::set_result(&outer, &*object::list(&[])?)?;
        return Ok(outer);
    }
    let known = KNOWN.get();
    let mut event_loop = if known.on_running_loop { registry::running_loop()? } else { None };
    let this = Own::<Gathering>::new()?;
    this.return_exceptions.set(return_exceptions);
    if event_loop.is_some() && known.awaited_by {
        let current_task = registry::current_task(&known.current_task)?;
        this.current_task.assign(Some(&current_task));
    }
    let current_task = this.current_task.get();

    let mut seen = match awaitables.iter().all(|awaitable| compares_by_identity(awaitable)) {
        true => Seen::ByIdentity(Places::of(awaitables.len())),
        false => Seen::ByEquality(object::dict(&[])?),
    };
    let mut children: Vec<Ref> = Vec::with_capacity(awaitables.len());
    let mut done = Vec::new();
    for (place, awaitable) in awaitables.iter().enumerate() {
        let known_child = match &mut seen {
            Seen::ByIdentity(seen) => {
                let twin = seen.find_or_note(awaitable, place, |other| awaitables[other].is(awaitable));
                twin.map(|place| children[place].clone())
            }
            Seen::ByEquality(seen) => object::dict_get(seen, awaitable)?,
        };
        let child: Ref = match known_child {
            Some(child) => child,
            None => {
                let child = ensure_future(awaitable, event_loop.as_deref())?;
                if event_loop.is_none() {
                    event_loop = Some(loop_of(&child)?);
                }
                if !child.is(awaitable) {
                    hide_destruction(&child)?;
                }
                if let Seen::ByEquality(seen) = &seen {
                    object::dict_set(seen, awaitable, &child)?;
                }
                this.count.set(this.count.get() + 1);
                if known.at_once && is_done(&child)? {
                    done.push(child.clone());
                } else {
                    if let Some(current_task) = &current_task {
                        registry::note_awaited(&child, current_task)?;
                    }
                    listen(&child, Listener::Gather(this.clone()))?;
                }
                child
            }
        };
        children.push(child);
    }
    *this.children.borrow_mut() = children;
    let outer = Own::<Future>::of_class(&known.outer_class)?;
    future::initialize(&outer, event_loop.as_deref())?;
    outer.core().rare().gathering.set(this.obj().own());
    this.outer.replace(Some(outer.clone()));
    for child in done {
        child_done(&this, &child)?;
    }
    Ok(outer.into_ref())
}

/// The caller cannot reach the task that was made for it, so nobody is told if it is destroyed while pending.
#[inline]
fn hide_destruction(child: &Obj) -> Fallible<()> {
    if let Some(task) = Inst::<Task>::exactly(child) {
        task::set_log_destroy_pending(task, false);
        return Ok(());
    }
    child.set(&*object::interned(c"_log_destroy_pending")?, boolean(false))
}

/// A child is done.
fn child_done(this: &Inst<Gathering>, child: &Obj) -> Fallible<()> {
    this.finished.set(this.finished.get() + 1);
    if let Some(current_task) = this.current_task.get() {
        registry::forget_awaited(child, &current_task)?;
    }
    if !this.outer.borrow().as_ref().is_some_and(|outer| outer.core().is_pending()) {
        // Nobody else will ask for the exception.
        return retrieve(child).map(drop);
    }
    if !this.return_exceptions.get() {
        let failure = match retrieve(child)? {
            Retrieved::Cancelled => Some(make_cancelled_error(child)?),
            Retrieved::Failed(exception) => Some(exception),
            Retrieved::Well => None,
        };
        if let Some(exception) = failure {
            return fail(this, &exception);
        }
    }
    if this.finished.get() < this.count.get() { Ok(()) } else { finish(this) }
}

/// The first child that fails ends the gathering.
#[inline(never)]
fn fail(this: &Inst<Gathering>, exception: &Obj) -> Fallible<()> {
    if let Some(current_task) = this.current_task.get().filter(|_| KNOWN.get().forgets_all) {
        let children = this.children.borrow().clone();
        for child in children {
            registry::forget_awaited(&child, &current_task)?;
        }
    }
    end(this, |outer| future::fail(outer, exception))
}

/// All children are done.
#[inline(never)]
fn finish(this: &Inst<Gathering>) -> Fallible<()> {
    let children = this.children.take();
    let mut results = Vec::with_capacity(children.len());
    for child in &children {
        results.push(result_of(child)?);
    }
    if this.cancel_requested.get() {
        let last = children.last().map_or_else(|| none().own(), Clone::clone);
        let exception = make_cancelled_error(&last)?;
        return end(this, |outer| future::fail(outer, &exception));
    }
    let results = object::list_of(results)?;
    end(this, |outer| future::finish(outer, results))
}

/// The gathering is over; what it holds is given up when the outer future is done.
fn end(this: &Inst<Gathering>, finish: impl FnOnce(&Inst<Future>) -> Fallible<()>) -> Fallible<()> {
    let outer = this.outer.borrow().clone();
    let Some(outer) = outer else { return Ok(()) };
    let outcome = finish(&outer);
    drop(this.outer.take());
    outer.core().rare().gathering.clear();
    drop(this.children.take());
    outcome
}

/// How a child ended.
#[derive(Debug)]
pub enum Retrieved {
    Cancelled,
    Failed(Ref),
    Well,
}

/// Asks a child for its exception, which counts as retrieved then.
#[inline]
pub fn retrieve(child: &Obj) -> Fallible<Retrieved> {
    match Inst::<Task>::exactly(child) {
        Some(task) if future::has_result(task) => Ok(Retrieved::Well),
        _ => retrieve_otherwise(child),
    }
}

#[inline(never)]
fn retrieve_otherwise(child: &Obj) -> Fallible<Retrieved> {
    if let Some(task) = Inst::<Task>::exactly(child) {
        return retrieve_ours(task);
    }
    if let Some(future) = Inst::<Future>::exactly(child) {
        return retrieve_ours(future);
    }
    if child.call_method(&state().names.cancelled_method, &[])?.truthy()? {
        return Ok(Retrieved::Cancelled);
    }
    let exception = child.call_method(&state().names.exception, &[])?;
    Ok(if exception.is_none() { Retrieved::Well } else { Retrieved::Failed(exception) })
}

#[inline]
fn retrieve_ours<T: FutureLike>(child: &Inst<T>) -> Fallible<Retrieved> {
    if child.core().progress.get() == future::Progress::Cancelled {
        return Ok(Retrieved::Cancelled);
    }
    Ok(future::exception(child)?.map_or(Retrieved::Well, Retrieved::Failed))
}

fn make_cancelled_error(child: &Obj) -> Fallible<Ref> {
    child.call_method(&*object::interned(c"_make_cancelled_error")?, &[])
}

/// What stands for a child in the list of results.
fn result_of(child: &Obj) -> Fallible<Ref> {
    match retrieve(child)? {
        Retrieved::Cancelled => {
            let message = child.get(&*object::interned(c"_cancel_message")?)?;
            let message = if message.is_none() { object::text("")? } else { message };
            state().cancelled_error.call(&[&message])
        }
        Retrieved::Failed(exception) => Ok(exception),
        Retrieved::Well => waiters::result(child),
    }
}

fn py_done_callback(this: &Inst<Gathering>, child: &Obj) -> Fallible<Ref> {
    child_done(this, child)?;
    Ok(none().own())
}

/// Makes the classes.
pub fn define(future_class: &Obj) -> Fallible<()> {
    crate::cpython::spec::define::<Gathering>(Spec {
        methods: class_methods!(Gathering, "Gathering";
            c"_done_callback" => one py_done_callback,
                c"_done_callback($self, future, /)\n--\n\nHear that a child is done.";
        ),
        slots: class_slots!(Gathering, "Gathering";),
        ..Spec::default()
    })?;
    let outer_class = crate::cpython::spec::derive(
        future_class,
        c"_GatheringFuture",
        c"What gather() returns: cancelling it cancels the children.",
    )?;
    let forgets_all =
        state().tasks_module.get_if_there(&*object::interned(c"_discard_awaited_by")?)?.is_some();
    let on_running_loop = Code::of(&state().tasks_module, c"gather")?.uses("_get_running_loop")?;
    KNOWN.set(Known {
        outer_class,
        current_task: object::interned(c"current_task")?,
        on_running_loop,
        at_once: state().minor >= 12,
        awaited_by: state().registers.add_awaited_by.is_some(),
        forgets_all,
    });
    Ok(())
}
