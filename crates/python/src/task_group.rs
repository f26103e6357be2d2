//! `TaskGroup`: tasks that end together.
//!
//! What differs between versions is asked of asyncio's own class at import ([`Known`]), because patch releases
//! differ too.

use std::cell::{Cell, RefCell};

use crate::cpython::global::Global;
use crate::cpython::object::{self, none};
use crate::cpython::raised::stops_the_loop;
use crate::cpython::{
    Args, Class, Fallible, Home, Inst, Obj, Own, Raised, Ref, Signature, Slot, Spec, Visitor,
};
use crate::ensure_future::spawn;
use crate::future::{self, FutureLike, Progress};
use crate::identity::IdentitySet;
use crate::listener::{Listener, Listens, Told, listen};
use crate::operation::{self, Kind, Operation, Step};
use crate::registry;
use crate::state::state;
use crate::task::{self, Task};
use crate::waiters;

/// The class `TaskGroup`.
#[derive(Debug)]
pub struct TaskGroup {
    entered: Cell<bool>,
    exiting: Cell<bool>,
    aborting: Cell<bool>,
    parent_cancel_requested: Cell<bool>,
    /// `cancel()` was called before it was entered (from 3.15 on).
    cancel_on_enter: Cell<bool>,
    event_loop: Slot,
    parent_task: Slot,
    base_error: Slot,
    on_completed: Slot,
    /// The last cancellation that arrived during the exit.
    pending: Slot,
    tasks: RefCell<IdentitySet>,
    errors: RefCell<Option<Vec<Ref>>>,
    told: Told,
}

static HOME: Home = Home::new();

impl Class for TaskGroup {
    const NAME: &'static std::ffi::CStr = c"velodrome.TaskGroup";
    const DICT: bool = true;

    fn home() -> &'static Home {
        &HOME
    }

    fn fresh() -> TaskGroup {
        TaskGroup {
            entered: Cell::new(false),
            exiting: Cell::new(false),
            aborting: Cell::new(false),
            parent_cancel_requested: Cell::new(false),
            cancel_on_enter: Cell::new(false),
            event_loop: Slot::empty(),
            parent_task: Slot::empty(),
            base_error: Slot::empty(),
            on_completed: Slot::empty(),
            pending: Slot::empty(),
            tasks: RefCell::default(),
            errors: RefCell::new(Some(Vec::new())),
            told: Told::default(),
        }
    }

    fn traverse(this: &Inst<TaskGroup>, visitor: &mut Visitor<'_>) {
        for slot in [&this.event_loop, &this.parent_task, &this.base_error, &this.on_completed, &this.pending]
        {
            visitor.slot(slot);
        }
        if let Ok(tasks) = this.tasks.try_borrow() {
            tasks.traverse(visitor);
        }
        if let Ok(Some(errors)) = this.errors.try_borrow().as_deref() {
            errors.iter().for_each(|error| visitor.object(error));
        }
        this.told.traverse(visitor);
    }

    fn clear(this: &Inst<TaskGroup>) {
        for slot in [&this.event_loop, &this.parent_task, &this.base_error, &this.on_completed, &this.pending]
        {
            slot.clear();
        }
        drop(this.tasks.take());
        drop(this.errors.take());
        this.told.clear();
    }
}

impl Listens for TaskGroup {
    const METHOD: &'static std::ffi::CStr = c"_on_task_done";

    fn told(&self) -> &Told {
        &self.told
    }

    #[inline]
    fn hear(this: &Inst<TaskGroup>, task: &Obj) -> Fallible<()> {
        on_task_done(this, task)
    }
}

/// What is looked up once, and how this version's group behaves.
#[derive(Debug)]
struct Known {
    current_task: Ref,
    uncancel: Ref,
    cancelling: Ref,
    exception_group: Ref,
    message: Ref,
    /// Classes derived from `CancelledError` count as cancellation (from 3.13 on).
    derived_cancellations: bool,
    /// The parent's own cancellation is taken back before the tasks are waited for (up to 3.12).
    uncancels_early: bool,
    /// A cancellation from outside is asked for again before an exception group goes out (from 3.13 on).
    cancels_again: bool,
    /// Coroutines that are refused are closed (from 3.13 on).
    closes: bool,
    /// Tasks that are done at once are heard of at once (3.12 and 3.13).
    hears_at_once: bool,
    /// An eager task of an aborted group is cancelled (from 3.15 on).
    cancels_late_tasks: bool,
    /// References are given up at the exit (from 3.14 on).
    gives_up: bool,
    /// A cancellation from outside that arrived while the group was aborting is not lost (from 3.15 on).
    keeps_pending: bool,
    /// The group has `cancel()`, and its exit swallows exceptions that are the group's own doing (from 3.15 on).
    has_cancel: bool,
}

static KNOWN: Global<Known> = Global::new();

static ENTER: Kind = Kind {
    name: "__aenter__",
    qualname: "TaskGroup.__aenter__",
    begin: |operation| with_group(operation, enter),
    resume: |_, outcome| outcome.map(Step::Done),
};
static EXIT: Kind = Kind {
    name: "__aexit__",
    qualname: "TaskGroup.__aexit__",
    begin: |operation| with_group(operation, |this| giving_up(this, begin_exit(operation, this))),
    resume: |operation, outcome| {
        let exception = outcome.err().map(Raised::take);
        with_group(operation, |this| giving_up(this, resume_exit(operation, this, exception)))
    },
};

#[inline]
fn with_group<R>(
    operation: &Inst<Operation>,
    work: impl FnOnce(&Inst<TaskGroup>) -> Fallible<R>,
) -> Fallible<R> {
    let owner = operation.owner.get_or_none();
    match Inst::<TaskGroup>::of(&owner) {
        Some(this) => work(this),
        None => Err(Raised::runtime_error("the operation has no group")),
    }
}

fn enter(this: &Inst<TaskGroup>) -> Fallible<Step> {
    if this.entered.get() {
        let shown = this.obj().shown();
        return Err(Raised::runtime_error(&format!("TaskGroup {shown} has already been entered")));
    }
    if this.event_loop.is_empty() {
        let Some(event_loop) = registry::running_loop()? else {
            return Err(Raised::runtime_error("no running event loop"));
        };
        this.event_loop.set(event_loop);
    }
    let parent = registry::current_task_of(&this.event_loop.get_or_none(), &KNOWN.get().current_task)?;
    if parent.is_none() {
        let shown = this.obj().shown();
        return Err(Raised::runtime_error(&format!("TaskGroup {shown} cannot determine the parent task")));
    }
    this.parent_task.set(parent);
    this.entered.set(true);
    if this.cancel_on_enter.get() {
        cancel(this)?;
    }
    Ok(Step::Done(this.obj().own()))
}

// ---------------------------------------------------------------------------------------------------------------
// The exit. `first` is the exception of the block, `second` the cancellation to pass on.

/// Stages, as bits: the block ended with an exception; which was a cancellation; which was a `GeneratorExit`.
const RAISED: u8 = 1;
const CANCELLED: u8 = 2;
const EXITED: u8 = 4;

/// What is given up when the exit is over, however that was.
#[inline]
fn giving_up(this: &Inst<TaskGroup>, step: Fallible<Step>) -> Fallible<Step> {
    if KNOWN.get().gives_up && !matches!(step, Ok(Step::Await(_))) {
        this.parent_task.clear();
        this.base_error.clear();
        drop(this.errors.take());
    }
    step
}

fn begin_exit(operation: &Inst<Operation>, this: &Inst<TaskGroup>) -> Fallible<Step> {
    let known = KNOWN.get();
    this.exiting.set(true);
    if let Some(exception) = operation.first.get()
        && stops_the_loop(&exception)
        && this.base_error.is_empty()
    {
        this.base_error.set(exception);
    }
    if operation.stage.get() & CANCELLED != 0
        && let Some(exception) = operation.first.get()
    {
        operation.second.set(exception);
    }
    if known.uncancels_early && this.parent_cancel_requested.get() && uncancel_parent(this)? == 0 {
        operation.second.clear();
    }
    if operation.stage.get() & RAISED != 0 && !this.aborting.get() {
        abort(this)?;
    }
    wait_or_end(operation, this)
}

fn resume_exit(
    operation: &Inst<Operation>,
    this: &Inst<TaskGroup>,
    exception: Option<Ref>,
) -> Fallible<Step> {
    if let Some(exception) = exception {
        if !exception.derives_from(&state().cancelled_error) {
            return Err(Raised::from_exception(exception));
        }
        if KNOWN.get().keeps_pending {
            this.pending.set(exception.clone());
        }
        if !this.aborting.get() {
            operation.second.set(exception);
            abort(this)?;
        }
    }
    this.on_completed.clear();
    wait_or_end(operation, this)
}

fn wait_or_end(operation: &Inst<Operation>, this: &Inst<TaskGroup>) -> Fallible<Step> {
    if this.tasks.borrow().is_empty() {
        return end_exit(operation, this);
    }
    let event_loop = this.event_loop.get_or_none();
    let future = crate::waiters::create_future(&event_loop)?;
    this.on_completed.set(future.clone());
    Ok(Step::Await(future))
}

fn end_exit(operation: &Inst<Operation>, this: &Inst<TaskGroup>) -> Fallible<Step> {
    let known = KNOWN.get();
    if let Some(error) = this.base_error.get() {
        return Err(Raised::raise(&error));
    }
    if !known.uncancels_early && this.parent_cancel_requested.get() {
        if uncancel_parent(this)? == 0 {
            operation.second.clear();
        } else if operation.second.is_empty()
            && let Some(pending) = this.pending.take()
        {
            operation.second.set(pending);
        }
    }
    let has_errors = this.errors.borrow().as_ref().is_some_and(|errors| !errors.is_empty());
    if let Some(cancelled) = operation.second.get()
        && !has_errors
    {
        return Err(Raised::raise(&cancelled));
    }
    let stage = operation.stage.get();
    if stage & RAISED != 0 && stage & CANCELLED == 0 {
        let exception = operation.first.get_or_none();
        this.errors.borrow_mut().get_or_insert_default().push(exception);
    }
    let errors = this.errors.borrow().clone().unwrap_or_default();
    if errors.is_empty() {
        let swallows = known.has_cancel;
        return Ok(Step::Done(if swallows { object::boolean(true).own() } else { none().own() }));
    }
    if known.cancels_again {
        let parent = this.parent_task.get_or_none();
        if cancelling(&parent)? > 0 {
            uncancel(&parent)?;
            task::cancel_any(&parent, None)?;
        }
    }
    if known.has_cancel
        && stage & EXITED != 0
        && errors.len() == 1
        && let Some(exception) = operation.first.get()
    {
        return Err(Raised::raise(&exception));
    }
    drop(this.errors.take());
    let group = known.exception_group.call(&[&known.message, &*object::list_of(errors)?])?;
    Err(Raised::raise_from_none(&group))
}

fn uncancel_parent(this: &Inst<TaskGroup>) -> Fallible<i64> {
    uncancel(&this.parent_task.get_or_none())
}

fn uncancel(parent: &Obj) -> Fallible<i64> {
    match Inst::<Task>::exactly(parent) {
        Some(task) => Ok(i64::from(task::uncancel(task))),
        None => parent.call_method(&KNOWN.get().uncancel, &[])?.to_i64(),
    }
}

fn cancelling(parent: &Obj) -> Fallible<i64> {
    match Inst::<Task>::exactly(parent) {
        Some(task) => Ok(i64::from(task::cancelling(task))),
        None => parent.call_method(&KNOWN.get().cancelling, &[])?.to_i64(),
    }
}

/// Cancels every task that is not done.
fn abort(this: &Inst<TaskGroup>) -> Fallible<()> {
    this.aborting.set(true);
    let tasks = this.tasks.borrow().list();
    for task in tasks {
        if !waiters::is_done(&task)? {
            task::cancel_any(&task, None)?;
        }
    }
    Ok(())
}

/// `cancel()`, from 3.15 on.
fn cancel(this: &Inst<TaskGroup>) -> Fallible<()> {
    if !this.entered.get() {
        this.cancel_on_enter.set(true);
        return Ok(());
    }
    if this.exiting.get() && this.tasks.borrow().is_empty() {
        return Ok(());
    }
    if !this.aborting.get() {
        abort(this)?;
        if let Some(parent) = this.parent_task.get()
            && !this.parent_cancel_requested.replace(true)
        {
            task::cancel_any(&parent, None)?;
        }
    }
    Ok(())
}

// ---------------------------------------------------------------------------------------------------------------
// Its tasks.

fn create_task(this: &Inst<TaskGroup>, args: Args<'_>) -> Fallible<Ref> {
    let simple = matches!((args.positional(), args.has_keywords()), ([_], false));
    let coro = match args.positional() {
        [coro, ..] => coro.own(),
        [] => args.keyword("coro")?.ok_or_else(|| {
            Raised::type_error("TaskGroup.create_task() missing 1 required positional argument: 'coro'")
        })?,
    };
    let refusal = if !this.entered.get() {
        Some("has not been entered")
    } else if this.exiting.get() && this.tasks.borrow().is_empty() {
        Some("is finished")
    } else if this.aborting.get() {
        Some("is shutting down")
    } else {
        None
    };
    let known = KNOWN.get();
    if let Some(refusal) = refusal {
        if known.closes {
            coro.call_method(&state().names.close, &[])?;
        }
        let shown = this.obj().shown();
        return Err(Raised::runtime_error(&format!("TaskGroup {shown} {refusal}")));
    }
    let event_loop = this.event_loop.get_or_none();
    let task = if simple { spawn(&event_loop, &coro)? } else { spawn_with(&event_loop, args)? };
    if let Some(parent) = this.parent_task.get() {
        registry::note_awaited(&task, &parent)?;
    }
    if known.hears_at_once && waiters::is_done(&task)? {
        call_on_task_done(this, &task)?;
        return Ok(task);
    }
    this.tasks.borrow_mut().insert(&task);
    if this.is_plain() {
        listen(&task, Listener::Group(this.own()))?;
    } else {
        let callback = this.obj().get(&*object::interned(TaskGroup::METHOD)?)?;
        task.call_method(&state().names.add_done_callback, &[&callback])?;
    }
    if known.cancels_late_tasks && this.aborting.get() && !waiters::is_done(&task)? {
        task::cancel_any(&task, None)?;
    }
    Ok(task)
}

/// `event_loop.create_task(coro, **kwargs)`, with the keywords that this version's group takes.
fn spawn_with(event_loop: &Obj, args: Args<'_>) -> Fallible<Ref> {
    let create_task = event_loop.get(&state().names.create_task)?;
    if state().minor >= 14 {
        return args.forward(&create_task, &[]);
    }
    let [coro, name, context] = args.parse(&Signature {
        function: "TaskGroup.create_task",
        names: ["coro", "name", "context"],
        positional: 1,
        required: 1,
    })?;
    let coro = coro.unwrap_or(none());
    let name = name.unwrap_or(none());
    match context.filter(|context| !context.is_none()) {
        None => {
            create_task.call_with_keywords(&[coro, name], &*object::tuple(&[&*object::interned(c"name")?])?)
        }
        Some(context) => {
            let names = object::tuple(&[&*object::interned(c"name")?, &*object::interned(c"context")?])?;
            create_task.call_with_keywords(&[coro, name, context], &names)
        }
    }
}

fn call_on_task_done(this: &Inst<TaskGroup>, task: &Obj) -> Fallible<()> {
    if this.is_plain() {
        return on_task_done(this, task);
    }
    this.obj().call_method(&*object::interned(TaskGroup::METHOD)?, &[task]).map(drop)
}

fn on_task_done(this: &Inst<TaskGroup>, task: &Obj) -> Fallible<()> {
    let removed = this.tasks.borrow_mut().remove(task);
    drop(removed);
    let parent = this.parent_task.get();
    if let Some(parent) = &parent {
        registry::forget_awaited(task, parent)?;
    }
    if let Some(future) = this.on_completed.get()
        && this.tasks.borrow().is_empty()
        && !waiters::is_done(&future)?
    {
        waiters::set_result(&future, object::boolean(true))?;
    }
    let exception = match Inst::<Task>::exactly(task) {
        Some(ours) if ours.core().progress.get() == Progress::Cancelled => return Ok(()),
        Some(ours) => future::py_exception(ours)?,
        None => {
            if task.call_method(&state().names.cancelled_method, &[])?.truthy()? {
                return Ok(());
            }
            task.call_method(&state().names.exception, &[])?
        }
    };
    if exception.is_none() {
        return Ok(());
    }
    this.errors.borrow_mut().get_or_insert_default().push(exception.clone());
    if stops_the_loop(&exception) && this.base_error.is_empty() {
        this.base_error.set(exception.clone());
    }
    let parent = parent.unwrap_or_else(|| none().own());
    if waiters::is_done(&parent)? {
        return report_orphan(this, task, &parent, &exception);
    }
    if !this.aborting.get() && !this.parent_cancel_requested.get() {
        abort(this)?;
        this.parent_cancel_requested.set(true);
        task::cancel_any(&parent, None)?;
    }
    Ok(())
}

/// The parent ended before the group: nobody will raise the exception.
fn report_orphan(this: &Inst<TaskGroup>, task: &Obj, parent: &Obj, exception: &Obj) -> Fallible<()> {
    let names = &state().names;
    let message = object::text(&format!(
        "Task {} has errored out but its parent task {} is already completed",
        task.shown(),
        parent.shown()
    ))?;
    let context =
        object::dict(&[(&names.message, &*message), (&names.exception, exception), (&names.task, task)])?;
    this.event_loop.get_or_none().call_method(&names.call_exception_handler, &[&context]).map(drop)
}

// ---------------------------------------------------------------------------------------------------------------
// The methods.

fn py_init(this: &Inst<TaskGroup>, args: Args<'_>) -> Fallible<()> {
    let [] =
        args.parse(&Signature { function: "TaskGroup.__init__", names: [], positional: 0, required: 0 })?;
    let _ = this;
    Ok(())
}

fn py_enter(this: &Inst<TaskGroup>) -> Fallible<Ref> {
    operation::create(&ENTER, this.obj()).map(Own::into_ref)
}

fn py_exit(this: &Inst<TaskGroup>, args: Args<'_>) -> Fallible<Ref> {
    const SIGNATURE: Signature<3> =
        Signature { function: "TaskGroup.__aexit__", names: ["et", "exc", "tb"], positional: 3, required: 3 };
    let [kind, exception, _traceback] = args.parse(&SIGNATURE)?;
    let operation = operation::create(&EXIT, this.obj())?;
    if let Some(kind) = kind.filter(|kind| !kind.is_none()) {
        let cancelled = &state().cancelled_error;
        let is_cancelled =
            kind.is(cancelled) || (KNOWN.get().derived_cancellations && kind.is_subtype_of(cancelled));
        let exited = kind.is_subtype_of(object::generator_exit());
        operation
            .stage
            .set(RAISED | if is_cancelled { CANCELLED } else { 0 } | if exited { EXITED } else { 0 });
    }
    if let Some(exception) = exception.filter(|exception| !exception.is_none()) {
        operation.first.set(exception.own());
    }
    Ok(operation.into_ref())
}

fn py_cancel(this: &Inst<TaskGroup>) -> Fallible<Ref> {
    cancel(this)?;
    Ok(none().own())
}

fn py_abort(this: &Inst<TaskGroup>) -> Fallible<Ref> {
    abort(this)?;
    Ok(none().own())
}

fn py_on_task_done(this: &Inst<TaskGroup>, task: &Obj) -> Fallible<Ref> {
    on_task_done(this, task)?;
    Ok(none().own())
}

fn py_is_base_error(_this: &Inst<TaskGroup>, exception: &Obj) -> Fallible<Ref> {
    Ok(object::boolean(stops_the_loop(exception)).own())
}

fn py_tasks(this: &Inst<TaskGroup>) -> Fallible<Ref> {
    let tasks = this.tasks.borrow().list();
    let set = object::new_set()?;
    for task in tasks {
        object::set_add(&set, &task)?;
    }
    Ok(set)
}

fn py_errors(this: &Inst<TaskGroup>) -> Fallible<Ref> {
    let errors = this.errors.borrow().clone();
    match errors {
        Some(errors) => object::list_of(errors),
        None => Ok(none().own()),
    }
}

macro_rules! flags {
    ($($name:ident $field:ident;)*) => {$(
        fn $name(this: &Inst<TaskGroup>) -> Fallible<Ref> {
            Ok(object::boolean(this.$field.get()).own())
        }
    )*};
}

flags! {
    py_entered entered;
    py_exiting exiting;
    py_aborting aborting;
    py_parent_cancel_requested parent_cancel_requested;
}

fn py_loop(this: &Inst<TaskGroup>) -> Fallible<Ref> {
    Ok(this.event_loop.get_or_none())
}

fn py_parent_task(this: &Inst<TaskGroup>) -> Fallible<Ref> {
    Ok(this.parent_task.get_or_none())
}

fn py_base_error(this: &Inst<TaskGroup>) -> Fallible<Ref> {
    Ok(this.base_error.get_or_none())
}

fn py_repr(this: &Inst<TaskGroup>) -> Fallible<Ref> {
    let mut text = String::from("<TaskGroup");
    let tasks = this.tasks.borrow().len();
    if tasks > 0 {
        text += &format!(" tasks={tasks}");
    }
    let errors = this.errors.borrow().as_ref().map_or(0, Vec::len);
    if errors > 0 {
        text += &format!(" errors={errors}");
    }
    if this.aborting.get() {
        text += " cancelling";
    } else if this.entered.get() {
        text += " entered";
    }
    object::text(&(text + ">"))
}

/// Looks at asyncio's class.
fn look() -> Fallible<Known> {
    let class = object::import(c"asyncio.taskgroups")?.get(&*object::interned(c"TaskGroup")?)?;
    let code_of = |name: &std::ffi::CStr| -> Fallible<Option<Ref>> {
        match class.get_if_there(&*object::interned(name)?)? {
            Some(method) => method.get_if_there(&*object::interned(c"__code__")?),
            None => Ok(None),
        }
    };
    let names_of = |code: &Option<Ref>, which: &std::ffi::CStr| -> Fallible<Vec<String>> {
        match code {
            Some(code) => {
                Ok(code.get(&*object::interned(which)?)?.items()?.iter().map(|name| name.to_text()).collect())
            }
            None => Ok(Vec::new()),
        }
    };
    let inner = code_of(c"_aexit")?;
    let exit = match &inner {
        Some(inner) => Some(inner.clone()),
        None => code_of(c"__aexit__")?,
    };
    let exit_names = names_of(&exit, c"co_names")?;
    let exit_variables = names_of(&exit, c"co_varnames")?;
    let create_names = names_of(&code_of(c"create_task")?, c"co_names")?;
    let has = |names: &[String], name: &str| names.iter().any(|known| known == name);
    let has_cancel = class.get_if_there(&*object::interned(c"cancel")?)?.is_some();
    Ok(Known {
        current_task: object::interned(c"current_task")?,
        uncancel: object::interned(c"uncancel")?,
        cancelling: object::interned(c"cancelling")?,
        exception_group: object::import(c"builtins")?.get(&*object::interned(c"BaseExceptionGroup")?)?,
        message: object::text("unhandled errors in a TaskGroup")?,
        derived_cancellations: has(&exit_names, "issubclass"),
        uncancels_early: !has(&exit_names, "cancelling"),
        cancels_again: has(&exit_names, "cancelling"),
        closes: has(&create_names, "close"),
        hears_at_once: has(&create_names, "done") && !has(&create_names, "cancel"),
        cancels_late_tasks: has(&create_names, "done") && has(&create_names, "cancel"),
        gives_up: inner.is_some(),
        keeps_pending: has(&exit_variables, "pending_cancellation_error"),
        has_cancel,
    })
}

/// Makes the class.
pub fn define() -> Fallible<Ref> {
    let known = look()?;
    let mut methods: Vec<_> = class_methods!(TaskGroup, "TaskGroup";
        c"create_task" => any create_task,
            c"create_task($self, coro, **kwargs)\n--\n\nCreate a task in this group and return it.";
        c"__aenter__" => none py_enter, c"__aenter__($self, /)\n--\n\nBegin the group.";
        c"__aexit__" => any py_exit,
            c"__aexit__($self, et, exc, tb, /)\n--\n\nWait for all tasks; raise what they raised as an exception \
              group.";
        c"_abort" => none py_abort, c"_abort($self, /)\n--\n\nCancel all tasks.";
        c"_on_task_done" => one py_on_task_done, c"_on_task_done($self, task, /)\n--\n\nHear that a task is done.";
        c"_is_base_error" => one py_is_base_error,
            c"_is_base_error($self, exc, /)\n--\n\nReturn whether an exception stops the loop itself.";
    );
    if known.has_cancel {
        methods.extend(class_methods!(TaskGroup, "TaskGroup";
            c"cancel" => none py_cancel,
                c"cancel($self, /)\n--\n\nCancel the group: its tasks, and the block, which then ends without an \
                  exception.";
        ));
    }
    KNOWN.set(known);
    crate::cpython::spec::define::<TaskGroup>(Spec {
        base: None,
        doc: Some(
            c"TaskGroup()\n--\n\nTasks that end together: the block waits for all of them, and when one fails the others \
              are\ncancelled and the exceptions raised as an ExceptionGroup.\n\n    async with TaskGroup() as \
              group:\n        group.create_task(...)",
        ),
        methods,
        attributes: class_attributes!(TaskGroup, "TaskGroup";
            c"_entered" => py_entered;
            c"_exiting" => py_exiting;
            c"_aborting" => py_aborting;
            c"_parent_cancel_requested" => py_parent_cancel_requested;
            c"_loop" => py_loop;
            c"_parent_task" => py_parent_task;
            c"_base_error" => py_base_error;
            c"_tasks" => py_tasks;
            c"_errors" => py_errors;
        ),
        slots: class_slots!(TaskGroup, "TaskGroup"; init py_init, repr py_repr),
    })
}
