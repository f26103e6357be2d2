//! [`Members`]: tasks that are cancelled with a scope.
//!
//! What must stay true: nothing is borrowed while a task is cancelled or forgotten.

use std::cell::{Cell, RefCell};

use crate::abi::CellRef;

/// Tasks that are cancelled at once, when the scope that has them is told to cancel, and for as long as it has them.
#[derive(Debug, Default)]
pub(crate) struct Members {
    tasks: RefCell<Vec<CellRef>>,
    cancelled: Cell<bool>,
}

impl Members {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Members { tasks: RefCell::new(Vec::with_capacity(capacity)), cancelled: Cell::new(false) }
    }

    pub(crate) fn add(&self, task: CellRef) {
        self.tasks.borrow_mut().push(task);
    }

    /// Cancels those that are not done.
    pub(crate) fn cancel(&self) {
        let tasks = self.tasks.borrow().clone();
        for task in tasks {
            task.cancel();
            self.cancelled.set(true);
        }
    }

    pub(crate) fn were_cancelled(&self) -> bool {
        self.cancelled.get()
    }

    /// Lets them go, unless they were cancelled.
    pub(crate) fn release(&self) {
        if !self.cancelled.get() {
            drop(self.tasks.take());
        }
    }
}
