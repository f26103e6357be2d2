//! [`Queue`]: items from task to task, with room for so many.
//!
//! What must stay true: asyncio's rules. Those who wait are served in order; who was woken and gives up hands that on; after a
//! shutdown nobody waits.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fmt;

use crate::locks::Event;
use crate::waiters::Waiters;

/// The order in which a [`Queue`] gives its items out.
///
/// ```
/// use velodrome::Order;
/// let mut last_first: Vec<i32> = Vec::new();
/// Order::put(&mut last_first, 1);
/// assert_eq!(last_first.take(), Some(1));
/// ```
pub trait Order<T>: Default {
    /// Puts an item in its place.
    ///
    /// ```
    /// use std::collections::VecDeque;
    /// velodrome::Order::put(&mut VecDeque::new(), 1);
    /// ```
    fn put(&mut self, item: T);

    /// Takes the next item.
    ///
    /// ```
    /// use velodrome::Order;
    /// assert_eq!(Vec::<i32>::new().take(), None);
    /// ```
    fn take(&mut self) -> Option<T>;

    /// How many there are.
    ///
    /// ```
    /// use velodrome::Order;
    /// assert_eq!(<Vec<i32> as Order<i32>>::count(&vec![1]), 1);
    /// ```
    fn count(&self) -> usize;
}

/// First in, first out.
impl<T> Order<T> for VecDeque<T> {
    #[inline]
    fn put(&mut self, item: T) {
        self.push_back(item);
    }

    #[inline]
    fn take(&mut self) -> Option<T> {
        self.pop_front()
    }

    fn count(&self) -> usize {
        self.len()
    }
}

/// Last in, first out.
impl<T> Order<T> for Vec<T> {
    fn put(&mut self, item: T) {
        self.push(item);
    }

    fn take(&mut self) -> Option<T> {
        self.pop()
    }

    fn count(&self) -> usize {
        self.len()
    }
}

/// The least first.
impl<T: Ord> Order<T> for BinaryHeap<Reverse<T>> {
    fn put(&mut self, item: T) {
        self.push(Reverse(item));
    }

    fn take(&mut self) -> Option<T> {
        self.pop().map(|Reverse(item)| item)
    }

    fn count(&self) -> usize {
        self.len()
    }
}

/// A [`Queue`] that gives the last item first.
///
/// ```
/// let stack: velodrome::LifoQueue<_> = velodrome::Queue::lifo();
/// stack.try_put(1).unwrap();
/// stack.try_put(2).unwrap();
/// assert_eq!(stack.try_get(), Ok(2));
/// ```
pub type LifoQueue<T> = Queue<T, Vec<T>>;

/// A [`Queue`] that gives the least item first.
///
/// ```
/// let queue: velodrome::PriorityQueue<_> = velodrome::Queue::priority();
/// queue.try_put(2).unwrap();
/// queue.try_put(1).unwrap();
/// assert_eq!(queue.try_get(), Ok(1));
/// ```
pub type PriorityQueue<T> = Queue<T, BinaryHeap<Reverse<T>>>;

/// A queue between tasks of a thread.
///
/// ```
/// use std::rc::Rc;
/// use velodrome::{Queue, create_task, run};
///
/// run(async {
///     let queue = Rc::new(Queue::bounded(2));
///     let writer = Rc::clone(&queue);
///     create_task(async move {
///         for number in 0..5 {
///             writer.put(number).await.unwrap();
///         }
///         writer.shutdown();
///     })
///     .detach();
///     let mut sum = 0;
///     while let Ok(number) = queue.get().await {
///         sum += number;
///     }
///     assert_eq!(sum, 10);
/// });
/// ```
pub struct Queue<T, O: Order<T> = VecDeque<T>> {
    items: RefCell<O>,
    /// `usize::MAX`: no bound.
    room: usize,
    getters: Waiters,
    putters: Waiters,
    unfinished: Cell<usize>,
    finished: Event,
    shut: Cell<bool>,
    item: std::marker::PhantomData<T>,
}

/// The queue was shut down. See [`Queue::shutdown`].
///
/// ```
/// let queue = velodrome::Queue::<i32>::unbounded();
/// queue.shutdown();
/// assert_eq!(velodrome::run(queue.get()), Err(velodrome::ShutDown));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the queue was shut down")]
pub struct ShutDown;

/// Why an item was not put; the item is in it.
///
/// ```
/// use velodrome::{PutError, Queue};
/// let queue = Queue::bounded(1);
/// queue.try_put('a').unwrap();
/// assert_eq!(queue.try_put('b'), Err(PutError::Full('b')));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PutError<T> {
    /// There is no room.
    #[error("the queue is full")]
    Full(T),
    /// The queue was shut down.
    #[error("the queue was shut down")]
    ShutDown(T),
}

impl<T> PutError<T> {
    /// The item.
    ///
    /// ```
    /// assert_eq!(velodrome::PutError::Full(1).into_item(), 1);
    /// ```
    pub fn into_item(self) -> T {
        match self {
            PutError::Full(item) | PutError::ShutDown(item) => item,
        }
    }
}

/// Why there is no item.
///
/// ```
/// use velodrome::{GetError, Queue};
/// assert_eq!(Queue::<i32>::unbounded().try_get(), Err(GetError::Empty));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GetError {
    /// There is none.
    #[error("the queue is empty")]
    Empty,
    /// There is none, and the queue was shut down.
    #[error("the queue was shut down")]
    ShutDown,
}

impl<T, O: Order<T>> Queue<T, O> {
    fn with_room(room: usize) -> Self {
        Queue {
            items: RefCell::new(O::default()),
            room,
            getters: Waiters::new(),
            putters: Waiters::new(),
            unfinished: Cell::new(0),
            finished: Event::new(),
            shut: Cell::new(false),
            item: std::marker::PhantomData,
        }
    }

    /// Whether there are no items.
    ///
    /// ```
    /// assert!(velodrome::Queue::<i32>::unbounded().is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there is no room.
    ///
    /// ```
    /// assert!(!velodrome::Queue::<i32>::bounded(1).is_full());
    /// ```
    pub fn is_full(&self) -> bool {
        self.len() >= self.room
    }

    /// How many items there are.
    ///
    /// ```
    /// assert_eq!(velodrome::Queue::<i32>::unbounded().len(), 0);
    /// ```
    pub fn len(&self) -> usize {
        self.items.borrow().count()
    }

    /// Puts an item if there is room.
    ///
    /// # Errors
    ///
    /// [`PutError`] with the item, if there is no room or the queue was shut down.
    ///
    /// ```
    /// let queue = velodrome::Queue::bounded(1);
    /// assert!(queue.try_put(1).is_ok());
    /// assert!(queue.try_put(2).is_err());
    /// ```
    #[inline]
    pub fn try_put(&self, item: T) -> Result<(), PutError<T>> {
        if self.shut.get() {
            return Err(PutError::ShutDown(item));
        }
        {
            let mut items = self.items.borrow_mut();
            if items.count() >= self.room {
                return Err(PutError::Full(item));
            }
            items.put(item);
        }
        self.unfinished.set(self.unfinished.get() + 1);
        self.finished.clear();
        self.getters.wake_one();
        Ok(())
    }

    /// Puts an item, waiting for room.
    ///
    /// # Errors
    ///
    /// [`PutError::ShutDown`] with the item, if the queue was shut down.
    ///
    /// ```
    /// velodrome::run(async {
    ///     let queue = velodrome::Queue::bounded(1);
    ///     queue.put(1).await.unwrap();
    ///     assert_eq!(queue.get().await, Ok(1));
    /// });
    /// ```
    #[inline]
    pub async fn put(&self, mut item: T) -> Result<(), PutError<T>> {
        loop {
            match self.try_put(item) {
                Err(PutError::Full(refused)) => item = refused,
                put => return put,
            }
            let on_lost = || {
                if !self.is_full() {
                    self.putters.wake_one();
                }
            };
            self.putters.wait(on_lost).await;
        }
    }

    /// Takes an item if there is one.
    ///
    /// # Errors
    ///
    /// [`GetError`], if there is none.
    ///
    /// ```
    /// let queue = velodrome::Queue::unbounded();
    /// queue.try_put(1).unwrap();
    /// assert_eq!(queue.try_get(), Ok(1));
    /// ```
    #[inline]
    pub fn try_get(&self) -> Result<T, GetError> {
        let item = self.items.borrow_mut().take();
        match item {
            Some(item) => {
                self.putters.wake_one();
                Ok(item)
            }
            None if self.shut.get() => Err(GetError::ShutDown),
            None => Err(GetError::Empty),
        }
    }

    /// Takes an item, waiting for one.
    ///
    /// # Errors
    ///
    /// [`ShutDown`], if there is none and the queue was shut down.
    ///
    /// ```
    /// velodrome::run(async {
    ///     let queue = velodrome::Queue::unbounded();
    ///     queue.try_put(1).unwrap();
    ///     assert_eq!(queue.get().await, Ok(1));
    /// });
    /// ```
    #[inline]
    pub async fn get(&self) -> Result<T, ShutDown> {
        loop {
            match self.try_get() {
                Ok(item) => return Ok(item),
                Err(GetError::ShutDown) => return Err(ShutDown),
                Err(GetError::Empty) => {}
            }
            let on_lost = || {
                if !self.is_empty() {
                    self.getters.wake_one();
                }
            };
            self.getters.wait(on_lost).await;
        }
    }

    /// Says that an item that was taken is dealt with: for [`Queue::join`].
    ///
    /// # Panics
    ///
    /// If it is called more often than items were put.
    ///
    /// ```
    /// let queue = velodrome::Queue::unbounded();
    /// queue.try_put(1).unwrap();
    /// queue.task_done();
    /// ```
    pub fn task_done(&self) {
        let left = self.unfinished.get().checked_sub(1).expect("task_done() called too many times");
        self.unfinished.set(left);
        if left == 0 {
            self.finished.set();
        }
    }

    /// Waits until every item that was put is dealt with.
    ///
    /// ```
    /// velodrome::run(async {
    ///     let queue = velodrome::Queue::unbounded();
    ///     queue.try_put(1).unwrap();
    ///     queue.get().await.unwrap();
    ///     queue.task_done();
    ///     queue.join().await;
    /// });
    /// ```
    pub async fn join(&self) {
        if self.unfinished.get() > 0 {
            self.finished.wait().await;
        }
    }

    /// Takes no more items. Those that are there can still be taken; whoever waits for more hears of it.
    ///
    /// ```
    /// use velodrome::{GetError, Queue};
    /// let queue = Queue::unbounded();
    /// queue.try_put(1).unwrap();
    /// queue.shutdown();
    /// assert!(queue.try_put(2).is_err());
    /// assert_eq!(queue.try_get(), Ok(1));
    /// assert_eq!(queue.try_get(), Err(GetError::ShutDown));
    /// ```
    pub fn shutdown(&self) {
        self.shut.set(true);
        self.getters.wake_all();
        self.putters.wake_all();
    }

    /// Takes no more items, and gives out those that are there to the caller; they count as dealt with.
    ///
    /// ```
    /// let queue = velodrome::Queue::unbounded();
    /// queue.try_put(1).unwrap();
    /// assert_eq!(queue.shutdown_now(), [1]);
    /// assert!(queue.is_empty());
    /// ```
    pub fn shutdown_now(&self) -> Vec<T> {
        let mut items = std::mem::take(&mut *self.items.borrow_mut());
        let items: Vec<T> = std::iter::from_fn(|| items.take()).collect();
        for _ in &items {
            self.task_done();
        }
        self.shutdown();
        items
    }
}

/// How they are made. The names differ, so that each says which order is meant.
macro_rules! constructors {
    ($bounded:ident, $unbounded:ident, $order:ty, ($($bound:tt)*), $what:literal) => {
        impl<T $($bound)*> Queue<T, $order> {
            #[doc = concat!("A queue that gives ", $what, ", with room for so many items.")]
            ///
            /// # Panics
            ///
            /// If there is no room at all.
            ///
            /// ```
            #[doc = concat!("let queue = velodrome::Queue::", stringify!($bounded), "(1);")]
            /// queue.try_put(1).unwrap();
            /// assert!(queue.is_full());
            /// ```
            pub fn $bounded(room: usize) -> Self {
                assert!(room > 0, "a queue without room");
                Queue::with_room(room)
            }

            #[doc = concat!("A queue that gives ", $what, ", with room for everything.")]
            ///
            /// ```
            #[doc = concat!("let queue = velodrome::Queue::", stringify!($unbounded), "();")]
            /// queue.try_put(1).unwrap();
            /// assert!(!queue.is_full());
            /// ```
            pub fn $unbounded() -> Self {
                Queue::with_room(usize::MAX)
            }
        }
    };
}

constructors!(bounded, unbounded, VecDeque<T>, (), "the first item first");
constructors!(lifo_bounded, lifo, Vec<T>, (), "the last item first");
constructors!(priority_bounded, priority, BinaryHeap<Reverse<T>>, (: Ord), "the least item first");

impl<T, O: Order<T>> fmt::Debug for Queue<T, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("len", &self.len())
            .field("shut", &self.shut.get())
            .finish_non_exhaustive()
    }
}
