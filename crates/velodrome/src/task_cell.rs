//! [`TaskCell`]: what is known of a task beside its future. Its name, whether it is done, and who in it is to hear of a
//! cancellation.
//!
//! A task is a tree of *scopes*: the task itself is the root, every [`catch_cancel`](crate::catch_cancel) and every task group
//! that is being polled in it is a scope, and so is every [`timeout`](crate::timeout), which sends cancellations but takes
//! none from outside. A cancellation goes to the innermost scopes that catch, or to the root if there are none.
//!
//! What must stay true:
//!
//! - A scope that was asked is woken, so that it hears of it although what it waits for does not come.
//! - Waking and dropping run other people's code, so nothing is borrowed then.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::task::Waker;

use slab::Slab;

use crate::abi::CellRef;
use crate::context::{Context, Entered};
use crate::members::Members;

/// The scope that is the task itself.
pub(crate) const ROOT: usize = u32::MAX as usize;

/// What a scope was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Told {
    #[default]
    Nothing,
    /// To end what is in it, the next time it is polled.
    Cancel,
    /// To end what is in it, as soon as that has given way: it said so itself.
    Unwind,
}

/// What a scope does with cancellations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It takes them.
    Catches,
    /// It sends them into itself, and takes back what comes of those.
    Sends,
}

#[derive(Debug)]
struct Scope {
    parent: usize,
    kind: Kind,
    /// How many cancellations it has sent into itself.
    sent: u32,
    told: Told,
    waker: Option<Waker>,
    /// Tasks that are cancelled at once when the scope is told to cancel. It is not woken then: it ends when they have.
    members: Option<Rc<Members>>,
}

pub(crate) struct TaskCell {
    /// What knows of the task, until it is done. (What is left then can be dropped on any thread.)
    context: Cell<Option<Rc<Context>>>,
    id: u64,
    /// Where the context keeps it.
    slot: Cell<u32>,
    cancelling: Cell<u32>,
    /// The innermost scope that is being polled.
    current: Cell<u32>,
    done: Cell<bool>,
    told: Cell<Told>,
    rare: OnceCell<Box<Rare>>,
}

impl Scope {
    /// Whether a cancellation that comes from within goes no further.
    fn takes_back(&self) -> bool {
        self.kind == Kind::Catches || self.sent > 0
    }

    fn ask(&mut self) -> Asked {
        self.told = Told::Cancel;
        match &self.members {
            Some(members) => Asked::Members(Rc::clone(members)),
            None => Asked::Itself(self.waker.clone()),
        }
    }
}

/// Who is to end what is in a scope.
enum Asked {
    Members(Rc<Members>),
    Itself(Option<Waker>),
}

impl Asked {
    fn tell(self) {
        match self {
            Asked::Members(members) => members.cancel(),
            Asked::Itself(waker) => waker.into_iter().for_each(Waker::wake),
        }
    }
}

/// What few tasks need.
#[derive(Default)]
struct Rare {
    name: RefCell<Option<Box<str>>>,
    scopes: RefCell<Slab<Scope>>,
    /// Wakes a main future. (Other tasks need none.)
    waker: Cell<Option<Waker>>,
}

thread_local! {
    static LAST_ID: Cell<u64> = const { Cell::new(0) };
}

impl TaskCell {
    /// What is known of a new task.
    #[inline(always)]
    pub(crate) fn new() -> Self {
        let id = LAST_ID.get() + 1;
        LAST_ID.set(id);
        TaskCell {
            context: Cell::new(None),
            id,
            slot: Cell::new(0),
            cancelling: Cell::new(0),
            current: Cell::new(ROOT as u32),
            done: Cell::new(false),
            told: Cell::new(Told::Nothing),
            rare: OnceCell::new(),
        }
    }

    /// Where the context keeps it.
    #[inline]
    pub(crate) fn set_slot(&self, slot: usize) {
        self.slot.set(slot as u32);
    }

    /// Where the context keeps it, for that memory to be fetched.
    #[inline]
    pub(crate) fn place(&self) -> Option<*const Option<CellRef>> {
        let context = self.context.take()?;
        let place = context.tasks.borrow().place(self.slot.get() as usize);
        self.context.set(Some(context));
        place
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    fn rare(&self) -> &Rare {
        self.rare.get_or_init(Box::default)
    }

    pub(crate) fn name(&self) -> String {
        let name = self.rare.get().and_then(|rare| rare.name.borrow().as_deref().map(str::to_owned));
        name.unwrap_or_else(|| format!("Task-{}", self.id))
    }

    pub(crate) fn set_name(&self, name: &str) {
        let name = Some(name.into());
        let old = self.rare().name.replace(name);
        drop(old);
    }

    pub(crate) fn is_done(&self) -> bool {
        self.done.get()
    }

    pub(crate) fn cancelling(&self) -> u32 {
        self.cancelling.get()
    }

    pub(crate) fn uncancel(&self) -> u32 {
        self.cancelling.set(self.cancelling.get().saturating_sub(1));
        self.cancelling.get()
    }

    /// How a main future is woken.
    pub(crate) fn set_waker(&self, waker: &Waker) {
        let kept = &self.rare().waker;
        let same = kept.take().filter(|kept| kept.will_wake(waker));
        kept.set(Some(same.unwrap_or_else(|| waker.clone())));
    }

    pub(crate) fn wake_main(&self) {
        let waker = self.rare().waker.take();
        if let Some(waker) = &waker {
            waker.wake_by_ref();
        }
        self.rare().waker.set(waker);
    }

    /// The task ended: the context forgets it.
    pub(crate) fn finish(&self) {
        if self.done.replace(true) {
            return;
        }
        let _waker = self.rare.get().and_then(|rare| rare.waker.take());
        if let Some(context) = self.context.take() {
            let _cell = context.tasks.borrow_mut().remove(self.slot.get() as usize);
        }
    }

    /// Makes the task's context the present one for a step, if the loop is somebody else's, who does not know of it.
    #[inline(always)]
    pub(crate) fn enter_guest(&self) -> Option<Entered> {
        if Context::is_running() == Some(false) { self.enter_own() } else { None }
    }

    #[cold]
    #[inline(never)]
    fn enter_own(&self) -> Option<Entered> {
        let context = self.context.take();
        let entered = context.as_ref().map(Context::enter);
        self.context.set(context);
        entered
    }

    /// What the root was told.
    #[inline]
    pub(crate) fn told(&self) -> Told {
        self.told.get()
    }

    /// A cancellation that came while the task was being polled is for the scopes in which it waits now.
    #[inline]
    pub(crate) fn hand_down(&self) {
        if self.told.get() == Told::Cancel && self.send_into(ROOT) {
            self.told.set(Told::Nothing);
        }
    }

    /// Tells the innermost catching scopes within a scope. `false` if there are none.
    fn send_into(&self, within: usize) -> bool {
        let mut asked = Vec::new();
        {
            let Some(rare) = self.rare.get() else { return false };
            let scopes = &mut *rare.scopes.borrow_mut();
            let parent = |scope: usize| scopes.get(scope).map_or(ROOT, |it| it.parent);
            let above = |scope: usize| {
                std::iter::successors(Some(scope), move |&it| (it != ROOT).then(|| parent(it))).skip(1)
            };
            let catching: Vec<usize> = scopes
                .iter()
                .filter(|(scope, it)| it.kind == Kind::Catches && above(*scope).any(|it| it == within))
                .map(|(scope, _)| scope)
                .collect();
            let innermost: Vec<usize> = catching
                .iter()
                .copied()
                .filter(|&scope| !catching.iter().any(|&other| above(other).any(|it| it == scope)))
                .collect();
            asked.extend(innermost.into_iter().map(|scope| scopes[scope].ask()));
        }
        let any = !asked.is_empty();
        asked.into_iter().for_each(Asked::tell);
        any
    }

    /// Asks for what a scope did not hear: the next one from here on that catches, or that may have sent it, or the root.
    fn send_on(&self, mut scope: usize) {
        let asked = {
            let mut scopes = self.rare().scopes.borrow_mut();
            loop {
                match scopes.get_mut(scope) {
                    Some(it) if it.takes_back() => break Some(it.ask()),
                    Some(it) => scope = it.parent,
                    None => break None,
                }
            }
        };
        match asked {
            Some(asked) => asked.tell(),
            None => self.told.set(Told::Cancel),
        }
    }

    /// Asks what is in a scope to end, which counts as a cancellation until the scope is left. `false` if nothing in it wants to
    /// be asked.
    fn send_from(&self, scope: usize) -> bool {
        let asked = self.send_into(scope);
        if asked {
            self.rare().scopes.borrow_mut()[scope].sent += 1;
            self.cancelling.set(self.cancelling.get().saturating_add(1));
        }
        asked
    }

    /// Hands a cancellation on that the code of the current scope has caught: to the next scope around it that catches, or that
    /// sent it, or to the root.
    pub(crate) fn unwind(&self) {
        let mut scopes = self.rare().scopes.borrow_mut();
        let mut scope = self.current.get() as usize;
        while let Some(it) = scopes.get_mut(scope) {
            if it.takes_back() {
                it.told = Told::Unwind;
                return;
            }
            scope = it.parent;
        }
        self.told.set(Told::Unwind);
    }
}

impl std::fmt::Debug for TaskCell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task")
            .field("name", &self.name())
            .field("done", &self.done.get())
            .finish_non_exhaustive()
    }
}

impl CellRef {
    /// The context knows of the task from now on.
    #[inline]
    pub(crate) fn register(self, context: &Rc<Context>) {
        self.context.set(Some(Rc::clone(context)));
        context.tasks.borrow_mut().add(self);
    }

    /// Ends the task in its next step, whatever catches in it.
    pub(crate) fn end(&self) {
        self.told.set(Told::Cancel);
        self.wake();
    }

    /// Asks the task to end. `false` if it has.
    pub(crate) fn cancel(&self) -> bool {
        if self.done.get() {
            return false;
        }
        self.cancelling.set(self.cancelling.get().saturating_add(1));
        if !self.send_into(ROOT) {
            self.told.set(Told::Cancel);
            self.wake();
        }
        true
    }
}

/// A scope of the task that polls what is in it; the scope ends when this is dropped.
#[derive(Debug)]
pub(crate) struct ScopeGuard {
    cell: CellRef,
    scope: usize,
    /// How many cancellations there were before.
    cancelling: u32,
}

impl ScopeGuard {
    /// Makes the scope of a future that is about to be polled, or moves it to the task that does so, if that is another one: a
    /// future can be begun by one task and go on in the next. It may have tasks that end with it. Says whether there is a new one.
    ///
    /// `None` where no task of ours is being polled, as in another executor: nobody can be cancelled there.
    #[inline]
    pub(crate) fn follow(scope: &mut Option<Self>, kind: Kind, members: Option<&Rc<Members>>) -> bool {
        match scope {
            None => *scope = Self::with(kind, members.cloned()),
            Some(here) if !here.cell.is_other() => return false,
            Some(_) => Self::move_here(scope, kind, members),
        }
        true
    }

    #[cold]
    fn move_here(scope: &mut Option<Self>, kind: Kind, members: Option<&Rc<Members>>) {
        let (told, sent) = match scope {
            Some(here) => here.empty(),
            None => Default::default(),
        };
        *scope = None;
        *scope = Self::with(kind, members.cloned());
        if let Some(Self { cell, scope, .. }) = scope {
            cell.cancelling.set(cell.cancelling.get().saturating_add(sent));
            let scope = &mut cell.rare().scopes.borrow_mut()[*scope];
            (scope.told, scope.sent) = (told, sent);
        }
    }

    /// What the scope was told, and how many cancellations it has sent, for another one.
    fn empty(&self) -> (Told, u32) {
        let (told, sent) = {
            let scope = &mut self.cell.rare().scopes.borrow_mut()[self.scope];
            (std::mem::take(&mut scope.told), std::mem::take(&mut scope.sent))
        };
        self.cell.cancelling.set(self.cell.cancelling.get().saturating_sub(sent));
        (told, sent)
    }

    fn with(kind: Kind, members: Option<Rc<Members>>) -> Option<Self> {
        let cell = CellRef::current()?;
        let parent = cell.current.get() as usize;
        let scope = cell.rare().scopes.borrow_mut().insert(Scope {
            parent,
            kind,
            sent: 0,
            told: Told::Nothing,
            waker: None,
            members,
        });
        let cancelling = cell.cancelling();
        Some(ScopeGuard { cell, scope, cancelling })
    }

    /// Polls what is in the scope.
    pub(crate) fn poll<R>(&self, waker: &Waker, poll: impl FnOnce() -> R) -> R {
        {
            let mut scopes = self.cell.rare().scopes.borrow_mut();
            let kept = &mut scopes[self.scope].waker;
            if !kept.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
                let old = kept.replace(waker.clone());
                drop(scopes);
                drop(old);
            }
        }
        let before = self.cell.current.replace(self.scope as u32);
        let restore = Restore { cell: &self.cell, before };
        let result = poll();
        drop(restore);
        self.hand_down();
        result
    }

    /// A cancellation that came while what is in the scope was being polled is for the scopes in which that waits now.
    fn hand_down(&self) {
        let told = self.cell.rare().scopes.borrow()[self.scope].told;
        if told == Told::Cancel && self.cell.send_into(self.scope) {
            self.told();
        }
    }

    /// What the scope was told, once.
    pub(crate) fn told(&self) -> Told {
        std::mem::take(&mut self.cell.rare().scopes.borrow_mut()[self.scope].told)
    }

    /// Whether somebody else has cancelled the task since, and that was not taken back.
    pub(crate) fn was_cancelled(&self) -> bool {
        let sent = self.cell.rare().scopes.borrow()[self.scope].sent;
        self.cell.cancelling() > self.cancelling + sent
    }

    /// Whether what is in the scope handed a cancellation on.
    pub(crate) fn unwinds(&self) -> bool {
        self.cell.rare().scopes.borrow()[self.scope].told == Told::Unwind
    }

    /// Asks what is in the scope to end. `false` if nothing in it wants to be asked.
    pub(crate) fn send(&self) -> bool {
        self.cell.send_from(self.scope)
    }

    /// The scope, for somebody else to ask what is in it to end.
    pub(crate) fn scope(&self) -> ScopeRef {
        ScopeRef { cell: self.cell.clone(), scope: self.scope }
    }
}

/// A scope, which must not be used when its guard is gone.
pub(crate) struct ScopeRef {
    cell: CellRef,
    scope: usize,
}

impl ScopeRef {
    /// As [`ScopeGuard::send`].
    pub(crate) fn send(&self) -> bool {
        self.cell.send_from(self.scope)
    }
}

struct Restore<'a> {
    cell: &'a TaskCell,
    before: u32,
}

impl Drop for Restore<'_> {
    fn drop(&mut self) {
        self.cell.current.set(self.before);
    }
}

impl Drop for ScopeGuard {
    fn drop(&mut self) {
        let scope = self.cell.rare().scopes.borrow_mut().try_remove(self.scope);
        let Some(Scope { parent, sent, told, .. }) = scope else { return };
        // Those that it has sent itself end with it.
        let others = self.cell.cancelling() > self.cancelling + sent;
        self.cell.cancelling.set(self.cell.cancelling.get().saturating_sub(sent));
        // It came while what is in the scope was being polled, for the last time, or is what this step was to tell: it is for what
        // comes next.
        if told == Told::Cancel && (sent == 0 || others) {
            self.cell.send_on(parent);
            self.cell.wake();
        }
    }
}
