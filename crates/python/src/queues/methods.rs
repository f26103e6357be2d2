//! The methods and attributes of queues, as Python sees them, and the three classes.

use crate::cpython::object::{self, boolean, none};
use crate::cpython::{Args, Class, Fallible, Inst, Obj, Own, Raised, Ref, Signature, Spec};
use crate::getstate::getstate_method;
use crate::operation;
use crate::queues::operations::{JOIN, PUT};
use crate::queues::{KNOWN, Known, Order, Queue, QueueNames, get_from};
use crate::state::state;
use crate::waiters;

fn py_init(this: &Inst<Queue>, args: Args<'_>) -> Fallible<()> {
    let [maxsize] = args.parse(&Signature {
        function: "Queue.__init__",
        names: ["maxsize"],
        positional: 1,
        required: 0,
    })?;
    let maxsize = maxsize.map_or_else(|| state().zero.clone(), Obj::own);
    let known = KNOWN.get();
    let exact = [Queue::home().class(), &known.lifo, &known.priority];
    let plain = exact.iter().any(|class| this.obj().is_exactly(class)) && maxsize.is_any_int();
    if maxsize.is_any_int() {
        this.limit.set(usize::try_from(maxsize.to_i64_or_nearest()?).unwrap_or(0));
    }
    this.order.set(if plain { this.inherited_order() } else { Order::Custom });
    this.maxsize.set(maxsize.clone());
    this.items.clear();
    this.getters.clear();
    this.putters.clear();
    this.unfinished.set(0);
    this.finished.clear();
    this.shut_down.set(false);
    if plain { prepare(this) } else { this.obj().call_method(&known.names.init, &[&maxsize]).map(drop) }
}

fn prepare(this: &Inst<Queue>) -> Fallible<()> {
    if this.inherited_order() == Order::Fifo {
        this.items.clear();
    } else {
        this.items.replace(object::list(&[])?);
    }
    Ok(())
}

fn py_prepare(this: &Inst<Queue>, _maxsize: &Obj) -> Fallible<Ref> {
    prepare(this)?;
    Ok(none().own())
}

fn py_take(this: &Inst<Queue>) -> Fallible<Ref> {
    this.take_item(this.inherited_order())
}

fn py_add(this: &Inst<Queue>, item: &Obj) -> Fallible<Ref> {
    this.add_item(this.inherited_order(), item)?;
    Ok(none().own())
}

fn py_qsize(this: &Inst<Queue>) -> Fallible<Ref> {
    object::int(this.items.len()? as i64)
}

fn py_empty(this: &Inst<Queue>) -> Fallible<Ref> {
    Ok(boolean(this.items.is_empty()?).own())
}

fn py_full(this: &Inst<Queue>) -> Fallible<Ref> {
    if this.is_native() {
        return Ok(boolean(this.is_full()?).own());
    }
    let maxsize = this.maxsize.get_or_none();
    if maxsize.is_at_most(&state().zero)? {
        return Ok(boolean(false).own());
    }
    let size = this.obj().call_method(&KNOWN.get().names.qsize, &[])?;
    Ok(boolean(maxsize.is_at_most(&size)?).own())
}

fn py_get(this: &Inst<Queue>) -> Fallible<Ref> {
    get_from(this).map(Own::into_ref)
}

fn py_put(this: &Inst<Queue>, args: Args<'_>) -> Fallible<Ref> {
    let item = match (args.positional(), args.has_keywords()) {
        ([item], false) => item,
        _ => {
            let signature = Signature { function: "Queue.put", names: ["item"], positional: 1, required: 1 };
            args.parse(&signature)?[0].unwrap_or(none())
        }
    };
    let operation = operation::create(&PUT, this.obj())?;
    operation.first.set(item.own());
    Ok(operation.into_ref())
}

fn py_get_nowait(this: &Inst<Queue>) -> Fallible<Ref> {
    this.get_nowait()
}

fn py_put_nowait(this: &Inst<Queue>, args: Args<'_>) -> Fallible<Ref> {
    let signature = Signature { function: "Queue.put_nowait", names: ["item"], positional: 1, required: 1 };
    let [item] = args.parse(&signature)?;
    this.put_nowait(item.unwrap_or(none()))?;
    Ok(none().own())
}

fn py_task_done(this: &Inst<Queue>) -> Fallible<Ref> {
    if this.unfinished.get() <= 0 {
        return Err(Raised::value_error("task_done() called too many times"));
    }
    this.unfinished.set(this.unfinished.get() - 1);
    if this.unfinished.get() == 0 {
        this.tell_finished(true)?;
    }
    Ok(none().own())
}

fn py_join(this: &Inst<Queue>) -> Fallible<Ref> {
    operation::create(&JOIN, this.obj()).map(Own::into_ref)
}

fn py_shutdown(this: &Inst<Queue>, args: Args<'_>) -> Fallible<Ref> {
    let [immediate] = args.parse(&Signature {
        function: "Queue.shutdown",
        names: ["immediate"],
        positional: 1,
        required: 0,
    })?;
    this.shut_down.set(true);
    if immediate.map_or(Ok(false), Obj::truthy)? {
        while !this.is_empty()? {
            drop(this.take()?);
            if this.unfinished.get() > 0 {
                this.unfinished.set(this.unfinished.get() - 1);
            }
        }
        if this.unfinished.get() == 0 {
            this.tell_finished(true)?;
        }
    }
    for waiters in [&this.getters, &this.putters] {
        while let Some(waiter) = waiters.pop()? {
            if !waiters::is_done(&waiter)? {
                waiters::set_result(&waiter, none())?;
            }
        }
    }
    Ok(none().own())
}

fn py_format(this: &Inst<Queue>) -> Fallible<Ref> {
    let mut text = format!("maxsize={}", this.maxsize.get_or_none().shown());
    if !this.items.is_empty()? {
        let items = object::list(&this.items.show()?.items()?)?;
        text += &format!(" _queue={}", items.repr()?.to_text());
    }
    if !this.getters.is_empty()? {
        text += &format!(" _getters[{}]", this.getters.len()?);
    }
    if !this.putters.is_empty()? {
        text += &format!(" _putters[{}]", this.putters.len()?);
    }
    if this.unfinished.get() != 0 {
        text += &format!(" tasks={}", this.unfinished.get());
    }
    if this.shut_down.get() {
        text += " shutdown";
    }
    object::text(&text)
}

fn formatted(this: &Inst<Queue>) -> Fallible<String> {
    Ok(this.obj().call_method(&KNOWN.get().names.format, &[])?.to_text())
}

fn py_repr(this: &Inst<Queue>) -> Fallible<Ref> {
    let (class, address) = (this.obj().class_name(), std::ptr::from_ref(this.obj()));
    object::text(&format!("<{class} at {address:p} {}>", formatted(this)?))
}

fn py_str(this: &Inst<Queue>) -> Fallible<Ref> {
    object::text(&format!("<{} {}>", this.obj().class_name(), formatted(this)?))
}

fn py_maxsize(this: &Inst<Queue>) -> Fallible<Ref> {
    Ok(this.maxsize.get_or_none())
}

fn py_set_maxsize(this: &Inst<Queue>, value: Option<&Obj>) -> Fallible<()> {
    let value = value.unwrap_or(none());
    match value.is_any_int() {
        true => this.limit.set(usize::try_from(value.to_i64_or_nearest()?).unwrap_or(0)),
        false => this.order.set(Order::Custom),
    }
    this.maxsize.set(value.own());
    Ok(())
}

fn py_items(this: &Inst<Queue>) -> Fallible<Ref> {
    this.items.show()
}

fn py_set_items(this: &Inst<Queue>, value: Option<&Obj>) -> Fallible<()> {
    // What the program puts there need not be what our orders count on.
    this.order.set(Order::Custom);
    this.items.replace(value.unwrap_or(none()).own());
    Ok(())
}

fn py_getters(this: &Inst<Queue>) -> Fallible<Ref> {
    this.getters.show()
}

fn py_set_getters(this: &Inst<Queue>, value: Option<&Obj>) -> Fallible<()> {
    this.getters.replace(value)
}

fn py_putters(this: &Inst<Queue>) -> Fallible<Ref> {
    this.putters.show()
}

fn py_set_putters(this: &Inst<Queue>, value: Option<&Obj>) -> Fallible<()> {
    this.putters.replace(value)
}

fn py_unfinished(this: &Inst<Queue>) -> Fallible<Ref> {
    object::int(this.unfinished.get())
}

fn py_set_unfinished(this: &Inst<Queue>, value: Option<&Obj>) -> Fallible<()> {
    this.unfinished.set(value.map_or(Ok(0), Obj::to_i64)?);
    Ok(())
}

fn py_finished(this: &Inst<Queue>) -> Fallible<Ref> {
    this.finished()
}

fn py_set_finished(this: &Inst<Queue>, value: Option<&Obj>) -> Fallible<()> {
    this.finished.set(value.unwrap_or(none()).own());
    Ok(())
}

fn py_is_shutdown(this: &Inst<Queue>) -> Fallible<Ref> {
    Ok(boolean(this.shut_down.get()).own())
}

fn py_set_is_shutdown(this: &Inst<Queue>, value: Option<&Obj>) -> Fallible<()> {
    this.shut_down.set(value.map_or(Ok(false), Obj::truthy)?);
    Ok(())
}

fn py_loop(this: &Inst<Queue>) -> Fallible<Ref> {
    Ok(this.bound.0.get_or_none())
}

fn py_set_loop(this: &Inst<Queue>, value: Option<&Obj>) -> Fallible<()> {
    this.bound.set(value);
    Ok(())
}

fn py_get_loop(this: &Inst<Queue>) -> Fallible<Ref> {
    this.bound.get(this.obj())
}

fn py_wakeup_next(_this: &Inst<Queue>, waiters: &Obj) -> Fallible<Ref> {
    while waiters.truthy()? {
        let waiter = waiters.call_method(&state().names.popleft, &[])?;
        if !waiters::is_done(&waiter)? {
            waiters::set_result(&waiter, none())?;
            break;
        }
    }
    Ok(none().own())
}

/// Makes the three classes.
pub fn define() -> Fallible<[Ref; 3]> {
    let mut methods: Vec<_> = class_methods!(Queue, "Queue";
        c"qsize" => none py_qsize, c"qsize($self, /)\n--\n\nReturn the number of items in the queue.";
        c"empty" => none py_empty, c"empty($self, /)\n--\n\nReturn True if the queue is empty.";
        c"full" => none py_full, c"full($self, /)\n--\n\nReturn True if there are maxsize items in the queue.";
        c"get" => none py_get,
            c"get($self, /)\n--\n\nRemove and return an item; wait for one if the queue is empty.";
        c"put" => any py_put,
            c"put($self, item)\n--\n\nPut an item into the queue; wait for a free slot if it is full.";
        c"get_nowait" => none py_get_nowait,
            c"get_nowait($self, /)\n--\n\nRemove and return an item, or raise QueueEmpty.";
        c"put_nowait" => any py_put_nowait,
            c"put_nowait($self, item)\n--\n\nPut an item into the queue, or raise QueueFull.";
        c"task_done" => none py_task_done,
            c"task_done($self, /)\n--\n\nSay that the work on an item that was gotten is complete.\n\nRaises \
              ValueError if called more often than there were items.";
        c"join" => none py_join,
            c"join($self, /)\n--\n\nWait until the work on all items that were put is complete.";
        c"_init" => one py_prepare, c"_init($self, maxsize, /)\n--\n\nMake what holds the items.";
        c"_get" => none py_take, c"_get($self, /)\n--\n\nTake out the item whose turn it is.";
        c"_put" => one py_add, c"_put($self, item, /)\n--\n\nAdd an item.";
        c"_format" => none py_format, c"_format($self, /)\n--\n\nReturn what the queue's repr says of it.";
        c"_wakeup_next" => one py_wakeup_next,
            c"_wakeup_next($self, waiters, /)\n--\n\nWake the first of the waiters that is not done.";
        c"_get_loop" => none py_get_loop,
            c"_get_loop($self, /)\n--\n\nReturn the running loop, which has to be the one that this is bound to.";
        c"__class_getitem__" => class crate::future::py_class_getitem,
            c"__class_getitem__($type, item, /)\n--\n\nSee PEP 585.";
    );
    methods.extend(getstate_method!(Queue, "Queue";
        c"_maxsize", c"_queue", c"_getters", c"_putters", c"_unfinished_tasks", c"_finished", c"_is_shutdown", c"_loop"));
    if state().minor >= 13 {
        methods.extend(class_methods!(Queue, "Queue";
            c"shutdown" => any py_shutdown,
                c"shutdown($self, immediate=False)\n--\n\nHave put() raise QueueShutDown, and get() once the queue \
                  is empty; with immediate, empty it.";
        ));
    }
    let class = crate::cpython::spec::define::<Queue>(Spec {
        base: None,
        doc: Some(
            c"Queue(maxsize=0)\n--\n\nItems that tasks put and get, first in, first out.\n\nputs wait while there are \
              maxsize items; 0 stands for no limit.",
        ),
        methods,
        attributes: class_attributes!(Queue, "Queue";
            c"maxsize" => py_maxsize;
            c"_maxsize" => py_maxsize, py_set_maxsize;
            c"_queue" => py_items, py_set_items;
            c"_getters" => py_getters, py_set_getters;
            c"_putters" => py_putters, py_set_putters;
            c"_unfinished_tasks" => py_unfinished, py_set_unfinished;
            c"_finished" => py_finished, py_set_finished;
            c"_is_shutdown" => py_is_shutdown, py_set_is_shutdown;
            c"_loop" => py_loop, py_set_loop;
        ),
        slots: class_slots!(Queue, "Queue"; init py_init, repr py_repr, str py_str),
    })?;
    let lifo = crate::cpython::spec::derive(
        &class,
        c"LifoQueue",
        c"LifoQueue(maxsize=0)\n--\n\nA queue that gives the item added last.",
    )?;
    let priority = crate::cpython::spec::derive(
        &class,
        c"PriorityQueue",
        c"PriorityQueue(maxsize=0)\n--\n\nA queue that gives the lowest item.",
    )?;
    let queues = object::import(c"asyncio.queues")?;
    let heap = object::import(c"heapq")?;
    KNOWN.set(Known {
        lifo: lifo.clone(),
        priority: priority.clone(),
        empty: queues.get(&*object::interned(c"QueueEmpty")?)?,
        full: queues.get(&*object::interned(c"QueueFull")?)?,
        shut_down: queues.get_if_there(&*object::interned(c"QueueShutDown")?)?,
        push: heap.get(&*object::interned(c"heappush")?)?,
        pop: heap.get(&*object::interned(c"heappop")?)?,
        names: QueueNames {
            empty: object::interned(c"empty")?,
            full: object::interned(c"full")?,
            qsize: object::interned(c"qsize")?,
            get: object::interned(c"_get")?,
            put: object::interned(c"_put")?,
            get_nowait: object::interned(c"get_nowait")?,
            put_nowait: object::interned(c"put_nowait")?,
            format: object::interned(c"_format")?,
            init: object::interned(c"_init")?,
        },
    });
    Ok([class, lifo, priority])
}
