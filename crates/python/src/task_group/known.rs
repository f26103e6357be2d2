//! How the group of the Python underneath behaves, as asyncio's own class tells.

use crate::cpython::global::Global;
use crate::cpython::object;
use crate::cpython::{Fallible, Ref};
use crate::create_task::HandsOn;
use crate::original::Code;

/// What is looked up once, and how this version's group behaves.
#[derive(Debug)]
pub struct Known {
    pub current_task: Ref,
    pub uncancel: Ref,
    pub cancelling: Ref,
    pub abort: Ref,
    pub is_base_error: Ref,
    pub exception_group: Ref,
    pub message: Ref,
    /// What the loop's `create_task` is given.
    pub hands_on: HandsOn,
    /// Classes derived from `CancelledError` count as cancellation (from 3.13 on).
    pub derived_cancellations: bool,
    /// The parent's own cancellation is taken back before the tasks are waited for (up to 3.12).
    pub uncancels_early: bool,
    /// A cancellation from outside is asked for again before an exception group goes out (from 3.13 on).
    pub cancels_again: bool,
    /// Coroutines that are refused are closed (from 3.13 on).
    pub closes: bool,
    /// Tasks that are done at once are heard of at once (3.12 and 3.13).
    pub hears_at_once: bool,
    /// An eager task of an aborted group is cancelled (from 3.15 on).
    pub cancels_late_tasks: bool,
    /// References are given up at the exit (from 3.14 on).
    pub gives_up: bool,
    /// A cancellation from outside that arrived while the group was aborting is not lost (from 3.15 on).
    pub keeps_pending: bool,
    /// The group has `cancel()`, and its exit swallows exceptions that are the group's own doing (from 3.15 on).
    pub has_cancel: bool,
}

pub static KNOWN: Global<Known> = Global::new();

/// Looks at asyncio's class.
pub fn look() -> Fallible<Known> {
    let class = object::import(c"asyncio.taskgroups")?.get(&*object::interned(c"TaskGroup")?)?;
    let inner = Code::if_there(&class, c"_aexit")?;
    let gives_up = inner.is_some();
    let exit = match inner {
        Some(inner) => inner,
        None => Code::of(&class, c"__aexit__")?,
    };
    let create = Code::of(&class, c"create_task")?;
    let has_cancel = class.get_if_there(&*object::interned(c"cancel")?)?.is_some();
    Ok(Known {
        current_task: object::interned(c"current_task")?,
        uncancel: object::interned(c"uncancel")?,
        cancelling: object::interned(c"cancelling")?,
        abort: object::interned(c"_abort")?,
        is_base_error: object::interned(c"_is_base_error")?,
        exception_group: object::import(c"builtins")?.get(&*object::interned(c"BaseExceptionGroup")?)?,
        message: object::text("unhandled errors in a TaskGroup")?,
        hands_on: HandsOn::as_in(&create)?,
        derived_cancellations: exit.uses("issubclass")?,
        uncancels_early: !exit.uses("cancelling")?,
        cancels_again: exit.uses("cancelling")?,
        closes: create.uses("close")?,
        hears_at_once: create.uses("done")? && !create.uses("cancel")?,
        cancels_late_tasks: create.uses("done")? && create.uses("cancel")?,
        gives_up,
        keeps_pending: exit.has_variable("pending_cancellation_error")?,
        has_cancel,
    })
}
