//! The parts of asyncio's own C structures that are read from outside.
//!
//! Debuggers and profilers (`python -m asyncio ps`, py-spy, ddtrace) find tasks by reading memory: the name, the
//! coroutine and the loop in a task's C structure, who awaits whom, the list of tasks and the current task in the
//! thread's state. Our tasks derive from `_asyncio.Task`, so they have that structure, and here it is filled in.
//! On 3.14 and later the list and the current task can then be kept by writing them directly, which costs a few
//! stores where asyncio's functions cost 25 to 60 ns each.
//!
//! What a context's variables are, and which context is current, is read to know whether two contexts are alike, which
//! nothing public tells without making a copy of one.
//!
//! None of these places is public, so nothing is assumed: [`probe`] looks, at import, at a task, a future, a
//! context and a thread of asyncio's own, and notes only those places in which it found what it had put there. What was not
//! found is left alone, and asyncio's functions are called instead. `VELODROME_LAYOUT=0` has it find nothing.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::class::{Class, Inst};
use super::ffi;
use super::object::{Obj, Ref};
use super::raised::Fallible;

/// A place in a structure, or none (0 is always the header).
#[derive(Debug)]
struct Place(AtomicUsize);

impl Place {
    const fn unknown() -> Place {
        Place(AtomicUsize::new(0))
    }

    #[inline]
    fn get(&self) -> Option<usize> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            offset => Some(offset),
        }
    }

    fn set(&self, offset: Option<usize>) {
        self.0.store(offset.unwrap_or(0), Ordering::Relaxed);
    }
}

static TASK_LOOP: Place = Place::unknown();
static TASK_CORO: Place = Place::unknown();
static TASK_NAME: Place = Place::unknown();
static TASK_NODE: Place = Place::unknown();
static AWAITED_BY: Place = Place::unknown();
/// Two flags, one byte each, behind `AWAITED_BY` and the state: "this is a task" and "awaited by several".
static IS_TASK: Place = Place::unknown();
static AWAITED_BY_SET: Place = Place::unknown();
/// How far in front of an object its `__dict__` is, of classes that leave it to the interpreter to keep.
static MANAGED_DICT: Place = Place::unknown();
/// In the thread's state: the running loop, the current task and the head of the list of tasks.
static THREAD_LOOP: Place = Place::unknown();
static THREAD_TASK: Place = Place::unknown();
static THREAD_TASKS: Place = Place::unknown();
/// In a context: its variables, an immutable mapping that is replaced when one is set.
static CONTEXT_VARIABLES: Place = Place::unknown();
/// In the thread's state: the context that is current.
static THREAD_CONTEXT: Place = Place::unknown();
/// How many words of a thread's state are looked through for its context; every version's has more.
const WORDS_OF_THREAD: usize = 40;
/// How many words in front of an object are looked through for its `__dict__`.
const WORDS_BEFORE_OBJECT: usize = 4;
/// How many words in front of the list's head are looked through for the other two.
const WORDS_BEFORE_HEAD: usize = 8;

const WORD: usize = std::mem::size_of::<usize>();

/// A class of ours whose base is `_asyncio.Future` or `_asyncio.Task`.
///
/// # Safety
/// It is, so its instances begin with that C structure.
#[allow(unsafe_code)]
pub unsafe trait FutureLayout: Class {}

/// A class of ours whose base is `_asyncio.Task`.
///
/// # Safety
/// It is.
#[allow(unsafe_code)]
pub unsafe trait TaskLayout: FutureLayout {}

#[allow(unsafe_code)]
mod layouts {
    use crate::future::Future;
    use crate::task::Task;

    // SAFETY: `future::define` gives it the base `_asyncio.Future`.
    unsafe impl super::FutureLayout for Future {}
    // SAFETY: `task::define` gives it the base `_asyncio.Task`, whose structure begins with the future's.
    unsafe impl super::FutureLayout for Task {}
    // SAFETY: the same.
    unsafe impl super::TaskLayout for Task {}
}

/// Objects of asyncio's own, among which the probe looks (made by `velodrome/_layout_probe.py`).
#[derive(Debug)]
pub struct Samples<'a> {
    /// The classes `_asyncio.Task` and `_asyncio.Future`.
    pub task_class: &'a Obj,
    pub future_class: &'a Obj,
    /// A registered, unnamed-by-nobody task and what it was made of.
    pub task: &'a Obj,
    pub task_loop: &'a Obj,
    pub coro: &'a Obj,
    pub name: &'a Obj,
    /// Where the version keeps track of who awaits whom: a future that `task` alone awaits, and one that two do.
    pub awaited_by_one: Option<&'a Obj>,
    pub awaited_by_two: Option<&'a Obj>,
    /// A future that nothing else is done with.
    pub future: &'a Obj,
    /// A context that nobody has entered, and what sets a variable in it.
    pub context: &'a Obj,
    pub change: &'a Obj,
    /// Whether `task` is the current task and `task_loop` the running loop of this thread, just now.
    pub current: bool,
}

/// Looks for the places, and notes those that are proven.
pub fn probe(samples: &Samples<'_>) {
    if std::env::var_os("VELODROME_LAYOUT").is_some_and(|value| value == "0") {
        return;
    }
    let task_size = basic_size(samples.task_class);
    let future_size = basic_size(samples.future_class);
    if let Err(raised) = probe_contexts(samples) {
        raised.discard();
    }
    TASK_LOOP.set(find(samples.task, task_size, samples.task_loop));
    TASK_CORO.set(find(samples.task, task_size, samples.coro));
    TASK_NAME.set(find(samples.task, task_size, samples.name));

    if let (Some(one), Some(two)) = (samples.awaited_by_one, samples.awaited_by_two) {
        let awaited_by = find(one, future_size, samples.task);
        // The state (an int) follows, then the two flags.
        let flags = awaited_by.map(|offset| offset + WORD + 4);
        let proven = flags.filter(|flags| {
            byte(samples.task, *flags) == 1
                && byte(one, *flags) == 0
                && byte(one, flags + 1) == 0
                && byte(two, flags + 1) == 1
        });
        AWAITED_BY.set(proven.and(awaited_by));
        IS_TASK.set(proven);
        AWAITED_BY_SET.set(proven.map(|flags| flags + 1));
    }
    MANAGED_DICT.set(managed_dict(samples.future));
    if samples.current {
        probe_thread(samples, task_size);
    }
}

/// Where, within the first `size` bytes of an object, a pointer to another one is.
fn find(object: &Obj, size: usize, sought: &Obj) -> Option<usize> {
    let mut found = words(object, size).filter(|(_, word)| *word == sought.as_ptr() as usize);
    // Found twice, it is not known which is which.
    found.next().filter(|_| found.next().is_none()).map(|(offset, _)| offset)
}

/// Setting a variable changes one word of a context, which copies have in common; and a thread has its context in its state as
/// long as it is entered.
fn probe_contexts(samples: &Samples<'_>) -> Fallible<()> {
    let context = samples.context;
    if !super::context::is_context(context) {
        return Ok(());
    }
    let look = |context: &Obj| words(context, basic_size(context.class())).collect::<Vec<_>>();
    let before = look(context);
    samples.change.call(&[])?;
    let (after, copy) = (look(context), look(&*super::context::copy(context)?));
    let mut variables = before.iter().zip(&after).filter(|(before, after)| before != after);
    let variables = variables.next().filter(|_| variables.next().is_none()).map(|(_, after)| *after);
    let thread = || {
        let thread = thread_state().cast::<usize>();
        let places = (1..WORDS_OF_THREAD)
            // SAFETY: inside the state, which is made of aligned words there.
            .filter(move |place| unsafe { *thread.add(*place) == context.as_ptr() as usize });
        places.collect::<Vec<_>>()
    };
    let outside = thread();
    let inside = super::context::within(context, || Ok(thread()))?;
    if let (Some(variables), [place], []) = (variables, &*inside, &*outside)
        && variables.1 != 0
        && copy.contains(&variables)
    {
        CONTEXT_VARIABLES.set(Some(variables.0));
        THREAD_CONTEXT.set(Some(place * WORD));
    }
    Ok(())
}

/// A state of a context's variables. As long as a context has it, any other that has it has the same variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variables(std::num::NonZeroUsize);

/// The variables of a context.
#[inline]
pub fn variables_of(context: &Obj) -> Option<Variables> {
    let offset = CONTEXT_VARIABLES.get().filter(|_| super::context::is_context(context))?;
    // SAFETY: the proven place in such an object.
    let variables = unsafe { *context.as_ptr().byte_add(offset).cast::<usize>() };
    std::num::NonZeroUsize::new(variables).map(Variables)
}

/// The variables of this thread's context, if it has one.
#[inline]
pub fn current_variables() -> Option<Variables> {
    let offset = THREAD_CONTEXT.get()?;
    // SAFETY: the proven place of an owned reference or NULL, which is only looked at.
    let context =
        unsafe { Obj::from_ptr_or_null(*thread_state().byte_add(offset).cast::<*mut ffi::PyObject>()) };
    context.and_then(variables_of)
}

/// How far in front of an object its dictionary is, if its class says that the interpreter keeps it there.
fn managed_dict(object: &Obj) -> Option<usize> {
    if !has_managed_dict(object) {
        return None;
    }
    // SAFETY: makes the dictionary, if there is none yet; a new reference or NULL with an exception.
    let dict =
        match unsafe { Ref::from_owned(ffi::PyObject_GenericGetDict(object.as_ptr(), std::ptr::null_mut())) }
        {
            Ok(dict) => dict,
            Err(raised) => {
                raised.discard();
                return None;
            }
        };
    let mut found = (1..=WORDS_BEFORE_OBJECT).map(|words| words * WORD).filter(|distance| {
        // SAFETY: an object of such a class has four words in front of it: dictionary, weak references, collector.
        unsafe { *object.as_ptr().byte_sub(*distance).cast::<usize>() == dict.as_ptr() as usize }
    });
    found.next().filter(|_| found.next().is_none())
}

/// Whether the interpreter keeps the object's attributes, in front of it.
#[inline]
fn has_managed_dict(object: &Obj) -> bool {
    // SAFETY: reads a field of a live type.
    unsafe { (*object.type_ptr()).tp_flags & ffi::Py_TPFLAGS_MANAGED_DICT != 0 }
}

/// The node of a registered task closes the structure; as the newest of its list, it points at the list's head, which
/// lies in the thread's state, a few words behind the running loop and the current task.
fn probe_thread(samples: &Samples<'_>, task_size: usize) {
    let node_offset = task_size - 2 * WORD;
    let thread = thread_state();
    // SAFETY: the last two words of the structure are inside it. The node's pointers are followed only when they
    // point into the first 4 KiB behind the thread's state, as a list head there would (states are larger).
    unsafe {
        let node: *const usize = samples.task.as_ptr().byte_add(node_offset).cast();
        // The newest task is the last of the list, so the head is what comes next.
        let (next, previous) = (*node, *node.add(1));
        let known = |word: usize| word.checked_sub(thread as usize).filter(|offset| *offset < 4096);
        let Some(head_offset) = [next, previous].into_iter().find_map(known) else { return };
        let head: *const usize = thread.byte_add(head_offset).cast();
        let links_back = *head == node as usize || *head.add(1) == node as usize;
        let before = |sought: &Obj| {
            let mut found =
                (1..=WORDS_BEFORE_HEAD).filter(|back| *head.sub(*back) == sought.as_ptr() as usize);
            let back = found.next()?;
            found.next().is_none().then_some(head_offset - back * WORD)
        };
        let (task, task_loop) = (before(samples.task), before(samples.task_loop));
        if links_back && task.is_some() && task_loop.is_some() {
            TASK_NODE.set(Some(node_offset));
            THREAD_TASKS.set(Some(head_offset));
            THREAD_TASK.set(task);
            THREAD_LOOP.set(task_loop);
        }
    }
}

fn basic_size(class: &Obj) -> usize {
    // SAFETY: callers pass type objects.
    unsafe { (*class.as_ptr().cast::<ffi::PyTypeObject>()).tp_basicsize as usize }
}

/// The words of an object's structure behind the header.
fn words(object: &Obj, size: usize) -> impl Iterator<Item = (usize, usize)> {
    let header = std::mem::size_of::<ffi::PyObject>();
    (header..size)
        .step_by(WORD)
        // SAFETY: inside the structure, which is `size` long and made of aligned words.
        .map(move |offset| (offset, unsafe { *object.as_ptr().byte_add(offset).cast::<usize>() }))
}

fn byte(object: &Obj, offset: usize) -> u8 {
    // SAFETY: callers stay within the structure.
    unsafe { *object.as_ptr().byte_add(offset).cast::<u8>() }
}

fn thread_state() -> *mut ffi::PyThreadState {
    // SAFETY: plain call with the GIL held.
    unsafe { ffi::PyThreadState_Get() }
}

/// What was proven, for `build_info()`.
pub fn proven() -> Vec<(&'static str, bool)> {
    vec![
        ("task_fields", TASK_CORO.get().is_some() && TASK_NAME.get().is_some() && TASK_LOOP.get().is_some()),
        ("awaited_by", AWAITED_BY.get().is_some()),
        ("thread_state", THREAD_TASKS.get().is_some()),
        ("contexts", THREAD_CONTEXT.get().is_some()),
    ]
}

/// A word of an instance that holds an owned reference or NULL.
#[inline]
fn reference<T: FutureLayout>(instance: &Inst<T>, offset: usize) -> &super::slot::Slot {
    // SAFETY: a proven place of the C base holds an owned reference or NULL, which is what a `Slot` is; the base
    // traverses and clears it.
    unsafe { &*instance.obj().as_ptr().byte_add(offset).cast() }
}

impl<T: TaskLayout> Inst<T> {
    /// Fills in what readers from outside look for in a task.
    #[inline]
    pub fn show_task(&self, task_loop: &Obj, coro: &Obj, name: Ref) {
        for (place, object) in [(&TASK_LOOP, task_loop), (&TASK_CORO, coro)] {
            if let Some(offset) = place.get() {
                reference(self, offset).set(object.own());
            }
        }
        if let Some(offset) = TASK_NAME.get() {
            reference(self, offset).set(name);
        }
        if let Some(offset) = IS_TASK.get() {
            // SAFETY: the proven place of a flag.
            unsafe { *self.obj().as_ptr().byte_add(offset).cast::<u8>() = 1 }
        }
    }

    /// Shows another name.
    pub fn show_name(&self, name: &Obj) {
        if let Some(offset) = TASK_NAME.get() {
            reference(self, offset).set(name.own());
        }
    }

    /// The same as [`Inst::base_is_zero`], of a task that goes; what was filled in is taken out.
    #[inline]
    pub fn empty_base(&self) -> bool {
        self.hide_task();
        self.base_is_zero()
    }

    #[inline]
    fn hide_task(&self) {
        for place in [&TASK_LOOP, &TASK_CORO, &TASK_NAME] {
            if let Some(offset) = place.get() {
                reference(self, offset).clear();
            }
        }
        if let Some(offset) = IS_TASK.get() {
            // SAFETY: the proven place of a flag.
            unsafe { *self.obj().as_ptr().byte_add(offset).cast::<u8>() = 0 }
        }
    }

    /// Shows no coroutine any more (asyncio drops it when a task finishes in its eager step).
    pub fn hide_coro(&self) {
        if let Some(offset) = TASK_CORO.get() {
            reference(self, offset).clear();
        }
    }

    /// Puts the task into the thread's list of tasks. `false`: that is not possible here, call asyncio.
    #[inline]
    pub fn link(&self) -> bool {
        let (Some(node_offset), Some(tasks)) = (TASK_NODE.get(), THREAD_TASKS.get()) else { return false };
        // SAFETY: proven places; the list is doubly linked and only touched with the GIL held. A task that is
        // freed is unlinked before (see `Task::clear` and its drop).
        unsafe {
            let node: *mut ListNode = self.obj().as_ptr().byte_add(node_offset).cast();
            if (*node).next.is_null() {
                let head: *mut ListNode = thread_state().byte_add(tasks).cast();
                (*node).previous = (*head).previous;
                (*node).next = head;
                (*(*head).previous).next = node;
                (*head).previous = node;
            }
        }
        true
    }

    /// Takes the task out of the list it is in, if it is in one.
    #[inline]
    pub fn unlink(&self) {
        let Some(node_offset) = TASK_NODE.get() else { return };
        // SAFETY: as in `link`; CPython unlinks in the same way and leaves NULLs behind.
        unsafe {
            let node: *mut ListNode = self.obj().as_ptr().byte_add(node_offset).cast();
            if !(*node).next.is_null() {
                (*(*node).previous).next = (*node).next;
                (*(*node).next).previous = (*node).previous;
                (*node).next = std::ptr::null_mut();
                (*node).previous = std::ptr::null_mut();
            }
        }
    }
}

/// `pycore_llist.h`.
#[repr(C)]
struct ListNode {
    next: *mut ListNode,
    previous: *mut ListNode,
}

impl<T: FutureLayout> Inst<T> {
    /// Whether asyncio's part is zero and no attribute was given, so that there is nothing for asyncio's function to clear.
    ///
    /// Only for instances of exactly our class, whose attributes are not kept [behind](super::spec::define) them.
    #[inline]
    pub fn base_is_zero(&self) -> bool {
        if !self.has_no_attributes() {
            return false;
        }
        let words = self.base_words();
        // By eights, the last of which may overlap: no loop is left of it for a future.
        let (eights, _) = words.as_chunks::<8>();
        match words.last_chunk::<8>() {
            Some(last) => {
                eights.iter().chain([last]).all(|eight| eight.iter().fold(0, |any, word| any | word) == 0)
            }
            None => words.iter().all(|word| *word == 0),
        }
    }

    /// Whether no attribute was given, as far as that is kept in front of the object.
    #[inline]
    fn has_no_attributes(&self) -> bool {
        let object = self.obj();
        if !has_managed_dict(object) {
            return true;
        }
        // SAFETY: reads a field of a live type.
        if unsafe { (*object.type_ptr()).tp_flags & super::spec::INLINE_VALUES != 0 } {
            return false;
        }
        // SAFETY: the proven place of a reference or NULL.
        MANAGED_DICT
            .get()
            .is_some_and(|distance| unsafe { *object.as_ptr().byte_sub(distance).cast::<usize>() } == 0)
    }

    /// The words of asyncio's part behind the header.
    #[inline]
    fn base_words(&self) -> &[usize] {
        let header = std::mem::size_of::<ffi::PyObject>();
        // SAFETY: they lie in front of our structure, and are only changed through pointers, which nobody does while this is
        // looked at.
        unsafe {
            let first = self.obj().as_ptr().byte_add(header).cast();
            std::slice::from_raw_parts(first, T::home().offset::<T>().saturating_sub(header) / WORD)
        }
    }

    /// Notes that `waiter` awaits this. `false`: there is somebody already, or no proven place; call asyncio
    /// (where the version has such a function).
    #[inline]
    pub fn show_awaited_by(&self, waiter: &Obj) -> bool {
        let Some(offset) = AWAITED_BY.get() else { return false };
        let place = reference(self, offset);
        if !place.is_empty() {
            return false;
        }
        place.set(waiter.own());
        true
    }

    /// Notes that `waiter` no longer awaits this. `false`: it is one of several; call asyncio.
    #[inline]
    pub fn hide_awaited_by(&self, waiter: &Obj) -> bool {
        let Some(offset) = AWAITED_BY.get() else { return false };
        let place = reference(self, offset);
        if place.is_empty() {
            return true;
        }
        if place.holds(waiter) && AWAITED_BY_SET.get().is_some_and(|flag| byte(self.obj(), flag) == 0) {
            place.clear();
            return true;
        }
        false
    }
}

/// The slots of the thread's state that hold the running loop and the current task, if they are known.
#[derive(Debug)]
pub struct ThreadSlots {
    running_loop: &'static super::slot::Slot,
    current_task: &'static super::slot::Slot,
}

impl ThreadSlots {
    /// Those of this thread.
    #[inline]
    pub fn here() -> Option<ThreadSlots> {
        let (running_loop, current_task) = (THREAD_LOOP.get()?, THREAD_TASK.get()?);
        // SAFETY: proven places, each an owned reference or NULL. A thread's state outlives what the thread does;
        // the value is neither stored nor sent, only kept over a step on this thread.
        unsafe {
            let thread = thread_state();
            Some(ThreadSlots {
                running_loop: &*thread.byte_add(running_loop).cast(),
                current_task: &*thread.byte_add(current_task).cast(),
            })
        }
    }

    /// The running loop.
    #[inline]
    pub fn running_loop(&self) -> Option<Ref> {
        self.running_loop.get()
    }

    /// Whether this is the running loop.
    #[inline]
    pub fn runs(&self, candidate: &Obj) -> bool {
        self.running_loop.holds(candidate)
    }

    /// The current task.
    #[inline]
    pub fn current_task(&self) -> Option<Ref> {
        self.current_task.get()
    }

    /// Puts a task, or none, in place of the current one, which is returned.
    #[inline]
    pub fn swap_current(&self, task: Option<Ref>) -> Option<Ref> {
        let old = self.current_task.take();
        if let Some(task) = task {
            self.current_task.set(task);
        }
        old
    }
}
