//! The context that new tasks share until one of them sets a variable.
//!
//! asyncio gives each task a copy of the context that it is made in. Most tasks never set a variable, and most are made beside
//! others, so most of these copies stay alike for as long as they live: an object each, for the collector as well. Here the
//! tasks that are made in like contexts, one after another, hold one copy, in which nobody runs (`original`), and take their
//! steps in another (`stage`), as long as every step leaves it as it found it. If one does not (a variable was set, or somebody
//! holds on to the context it ran in: a token, a greenlet), that context is the task's own from then on, and the next task gets
//! a new stage. So does a task whose context is asked for.
//!
//! What must stay true: nobody can tell such a task's context from one of its own; and the loop holds the variables no longer
//! than a task does that shares them.
//!
//! Whether contexts are alike is looked up in private places of CPython; where these are not known, nothing is shared.

use std::cell::Cell;

use crate::cpython::context::{Variables, copy, copy_current, current_variables, variables_of};
use crate::cpython::{Fallible, Inst, Obj, Ref, Slot, Visitor};
use crate::event_loop::EventLoop;
use crate::task::Task;

/// Of a loop.
#[derive(Debug, Default)]
pub struct SharedContext {
    original: Slot,
    /// Those of `original`, and of `stage` as it is found.
    variables: Cell<Option<Variables>>,
    stage: Slot,
    /// The address of the task that takes a step in `stage` just now; 0 is none.
    stepping: Cell<usize>,
    /// When the last task was made that did not find another to share with, and the variables then.
    last: Cell<(u32, Option<Variables>)>,
}

impl SharedContext {
    /// The context of a task that is made in the current one, and whether it shares it.
    ///
    /// The second task that is made within an iteration begins to share: one that is made alone has nobody to share with.
    #[inline]
    pub(super) fn of_new_task(&self, iteration: u32) -> Fallible<(Ref, bool)> {
        let Some(variables) = current_variables() else {
            return Ok((copy_current()?, false));
        };
        if self.variables.get() == Some(variables)
            && let Some(original) = self.original.get()
        {
            return Ok((original, true));
        }
        let copy = copy_current()?;
        let this = (iteration, Some(variables));
        // As long as a step runs in the stage, whose it is must not be forgotten.
        let shares = self.last.replace(this) == this && self.stepping.get() == 0;
        if shares {
            self.begin(Some(copy.clone()));
        }
        Ok((copy, shares))
    }

    /// The context for a step of a task that shares.
    #[inline]
    fn lend(&self, task: &Inst<Task>) -> Fallible<Ref> {
        if self.is_free_for(task)
            && let Some(stage) = self.stage.get()
        {
            self.stepping.set(address(task));
            return Ok(stage);
        }
        self.lend_anew(task)
    }

    #[inline(never)]
    fn lend_anew(&self, task: &Inst<Task>) -> Fallible<Ref> {
        if !self.is_free_for(task) || self.is_alone(task) {
            return self.own(task);
        }
        let stage = copy(&task.context.get_or_none())?;
        // Making it may have run Python.
        if !self.is_free_for(task) || !self.stage.is_empty() {
            return self.own(task);
        }
        self.stage.set(stage.clone());
        self.stepping.set(address(task));
        Ok(stage)
    }

    /// A step in what was lent is over.
    #[inline]
    fn take_back(&self, task: &Inst<Task>, lent: &Obj) {
        if self.stage.holds(lent) {
            self.stepping.set(0);
            // One reference is ours, the other that of whoever gives it back.
            if self.stage.references() == 2 && variables_of(&self.stage) == self.variables.get() {
                return;
            }
        }
        self.keep(task, lent);
    }

    /// What was lent is no longer as it was.
    #[inline(never)]
    fn keep(&self, task: &Inst<Task>, lent: &Obj) {
        if self.stage.holds(lent) {
            self.stage.clear();
        }
        if task.shares_context.get() {
            self.give(task, lent.own());
        }
    }

    /// Makes a task that shares its context the owner of one, which is returned.
    #[inline(never)]
    fn own(&self, task: &Inst<Task>) -> Fallible<Ref> {
        if self.stepping.get() == address(task)
            && let Some(stage) = self.stage.take()
        {
            self.stepping.set(0);
            self.give(task, stage);
        } else if self.is_alone(task) {
            task.shares_context.set(false);
            if self.original.peek_is(&task.context) {
                self.begin(None);
            }
        } else {
            let context = copy(&task.context.get_or_none())?;
            // Making it may have run Python.
            if task.shares_context.get() {
                self.give(task, context);
            }
        }
        Ok(task.context.get_or_none())
    }

    /// Gives a task that shares its context one of its own.
    fn give(&self, task: &Inst<Task>, context: Ref) {
        self.leave(task);
        task.context.set(context);
    }

    /// A task does not share its context any longer.
    fn leave(&self, task: &Task) {
        task.shares_context.set(false);
        if self.original.peek_is(&task.context) && self.original.references() == 2 {
            self.begin(None);
        }
    }

    /// Whether this is what the task shares, and nobody else takes a step in the stage.
    fn is_free_for(&self, task: &Inst<Task>) -> bool {
        self.stepping.get() == 0 && self.original.peek_is(&task.context)
    }

    /// Whether nobody shares with the task any more.
    fn is_alone(&self, task: &Inst<Task>) -> bool {
        task.context.references() == 1 + usize::from(self.original.peek_is(&task.context))
    }

    /// Begins anew, with another original or none.
    fn begin(&self, original: Option<Ref>) {
        self.stepping.set(0);
        // Variables that go can run Python, which finds neither here any more.
        let _old = (self.original.replace(original), self.stage.take());
        self.variables.set(variables_of(&self.original));
    }

    /// Shows what is owned to the garbage collector.
    pub fn traverse(&self, visitor: &mut Visitor<'_>) {
        visitor.slot(&self.original);
        visitor.slot(&self.stage);
    }

    /// Forgets it.
    pub fn clear(&self) {
        self.begin(None);
    }
}

/// A step of a task in its context, its own or that which it shares.
#[derive(Debug)]
pub(super) struct StepContext<'a> {
    /// Who has lent it.
    shared: Option<&'a SharedContext>,
    task: &'a Inst<Task>,
    pub(super) context: Ref,
}

impl<'a> StepContext<'a> {
    #[inline]
    pub(super) fn of(task: &'a Inst<Task>, event_loop: &'a EventLoop) -> Fallible<StepContext<'a>> {
        if task.shares_context.get() {
            let shared = &event_loop.shared_context;
            return Ok(StepContext { shared: Some(shared), task, context: shared.lend(task)? });
        }
        Ok(StepContext { shared: None, task, context: task.context.get_or_none() })
    }
}

impl Drop for StepContext<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(shared) = self.shared {
            shared.take_back(self.task, &self.context);
        }
    }
}

fn address(task: &Task) -> usize {
    std::ptr::from_ref(task) as usize
}

impl Inst<Task> {
    /// Has the task own its context.
    pub(super) fn own_context(&self) -> Fallible<()> {
        if self.shares_context.get() {
            let event_loop = self.core.event_loop.get_or_none();
            match Inst::<EventLoop>::of(&event_loop) {
                Some(event_loop) => event_loop.shared_context.own(self)?,
                None => SharedContext::default().own(self)?,
            };
        }
        Ok(())
    }

    /// Has the task share its context no longer, which it is about to let go of.
    #[inline]
    pub(super) fn leave_context(&self) {
        // With more than the loop's and its own there is another one who shares it.
        if self.shares_context.get()
            && self.context.references() <= 2
            && let Some(event_loop) = self.core.event_loop.get()
            && let Some(event_loop) = Inst::<EventLoop>::of(&event_loop)
        {
            event_loop.shared_context.leave(self);
        }
    }
}
