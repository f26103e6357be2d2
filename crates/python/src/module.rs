//! The module's contents.

use pyo3::prelude::*;

use crate::cpython::module::{Function, Module};
use crate::cpython::object::{self, boolean, none};
use crate::cpython::{Args, Fallible, Obj, Own, Ref, Signature};
use crate::create_task::{self, HandsOn};
use crate::state::{State, state};
use crate::{
    event_loop, future, future_iter, handle, operation, operation_frame, operation_iter, sleep, task,
    thread_safe_handle, timer_handle, transport,
};

/// Velodrome's native module.
#[pymodule]
#[pyo3(name = "_velodrome")]
fn velodrome(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let version = module.py().version_info();
    crate::cpython::module::fill(module, |module| fill(module, version.minor, version.patch))
}

fn fill(module: &Module<'_>, minor: u8, micro: u8) -> Fallible<()> {
    State::init(minor, micro)?;
    probe_layout()?;
    crate::cpython::socket::probe()?;

    let future_class = future::define()?;
    let task_class = task::define()?;
    let handle_class = handle::define()?;
    let timer_handle_class = timer_handle::define()?;
    crate::metaclass::define(&[&future_class, &task_class, &handle_class, &timer_handle_class])?;
    module.add(c"Future", &future_class)?;
    module.add(c"FutureIter", &*future_iter::define()?)?;
    module.add(c"Task", &task_class)?;
    module.add(c"Handle", &handle_class)?;
    module.add(c"TimerHandle", &timer_handle_class)?;
    if let Some(class) = thread_safe_handle::define()? {
        module.add(c"ThreadSafeHandle", &class)?;
    }
    module.add(c"LoopCore", &*event_loop::define()?)?;
    module.add(c"SocketTransport", &*transport::define()?)?;
    module.add(c"DatagramTransport", &*transport::datagram::define()?)?;
    module.add(c"ReadPipeTransport", &*transport::read_pipe::define()?)?;
    module.add(c"WritePipeTransport", &*transport::write_pipe::define()?)?;
    module.add(c"TlsCore", &*crate::tls::define()?)?;
    module.add(c"Operation", &*operation::define()?)?;
    module.add(c"OperationIter", &*operation_iter::define()?)?;
    module.add(c"OperationFrame", &*operation_frame::define()?)?;
    crate::gather::define(&future_class)?;
    crate::shield::define()?;
    crate::sockets::define()?;
    crate::wait::define()?;
    crate::wait_for::define()?;
    crate::as_completed::define()?;
    if minor < 13 {
        crate::as_completed_generator::define()?;
    }
    if minor < 12 {
        crate::race::define()?;
    }
    crate::wrap_future::define()?;
    crate::run_coroutine_threadsafe::define()?;
    crate::introspection::init()?;
    module.add(c"Runner", &*crate::runner::define()?)?;
    if minor >= 12 {
        module.add(c"eager_task_factory", &*crate::eager::define()?)?;
    }
    crate::locks::define(module)?;
    for (name, class) in [c"Queue", c"LifoQueue", c"PriorityQueue"].into_iter().zip(crate::queues::define()?)
    {
        module.add(name, &class)?;
    }
    module.add(c"CoroutineFunction", &*crate::cpython::function::define()?)?;
    crate::streams::define(module)?;
    module.add(c"TaskGroup", &*crate::task_group::define()?)?;
    module.add(c"Timeout", &*crate::timeouts::define()?)?;
    module.add(c"__version__", &*object::text(env!("CARGO_PKG_VERSION"))?)?;
    let asyncio = object::import(c"asyncio")?;
    for function in functions()? {
        module.add_function(function, |name| is_coroutine_function(&asyncio, name))?;
    }
    mark_classes(module, &asyncio)
}

/// Whether what asyncio has of this name returns coroutines.
fn is_coroutine_function(place: &Obj, name: &Obj) -> Fallible<bool> {
    let Some(original) = place.get_if_there(name)? else { return Ok(false) };
    let asks = object::import(c"inspect")?.get(&*object::interned(c"iscoroutinefunction")?)?;
    asks.call(&[&original])?.truthy()
}

/// Marks the methods of the classes that are called what asyncio's are. (Streams, which note their methods as they are
/// made, have done so by then.) And those of the loop's.
fn mark_classes(module: &Module<'_>, asyncio: &Obj) -> Fallible<()> {
    let original = asyncio.get(&*object::interned(c"SelectorEventLoop")?)?;
    mark_methods(&*module.get(&*object::interned(c"LoopCore")?)?, &original)?;
    let (locks, others) = (
        [c"Lock", c"Event", c"Condition", c"Semaphore", c"BoundedSemaphore", c"Barrier"],
        [c"Queue", c"LifoQueue", c"PriorityQueue", c"TaskGroup", c"Timeout"],
    );
    for class in locks.into_iter().chain(others) {
        let name = object::interned(class)?;
        mark_methods(&*module.get(&name)?, &*asyncio.get(&name)?)?;
    }
    Ok(())
}

/// Marks those methods of a class of ours that return coroutines in asyncio's.
pub fn mark_methods(ours: &Obj, original: &Obj) -> Fallible<()> {
    let namespace = object::dict_of(&*ours.get(&*object::interned(c"__dict__")?)?)?;
    for name in namespace.items()? {
        if is_coroutine_function(original, &name)? {
            ours.set(&name, &*crate::cpython::function::marked(&*ours.get(&name)?)?)?;
        }
    }
    Ok(())
}

/// Has the package's `_layout_probe.py` make the samples, and looks at them.
fn probe_layout() -> Fallible<()> {
    use crate::cpython::layout::{Samples, probe};
    fn look(args: Args<'_>) -> Fallible<Ref> {
        let [task, task_loop, coro, name, one, two, future, context, change, current] =
            args.parse(&Signature {
                function: "look",
                names: [
                    "task",
                    "loop",
                    "coro",
                    "name",
                    "awaited_by_one",
                    "awaited_by_two",
                    "future",
                    "context",
                    "change",
                    "current",
                ],
                positional: 10,
                required: 10,
            })?;
        let given = |value: Option<&'_ Obj>| value.map(Obj::own).unwrap_or_else(|| none().own());
        let (task, task_loop, coro, name) = (given(task), given(task_loop), given(coro), given(name));
        let (future, context, change) = (given(future), given(context), given(change));
        probe(&Samples {
            task_class: &state().task_class,
            future_class: &state().future_class,
            task: &task,
            task_loop: &task_loop,
            coro: &coro,
            name: &name,
            awaited_by_one: one.filter(|one| !one.is_none()),
            awaited_by_two: two.filter(|two| !two.is_none()),
            future: &future,
            context: &context,
            change: &change,
            current: current.map_or(Ok(false), Obj::truthy)?,
        });
        Ok(none().own())
    }
    let look = crate::cpython::module::callable(module_function!("_velodrome", c"look", look, c""))?;
    object::import(c"velodrome._layout_probe")?.call_method(&*object::interned(c"show")?, &[&look]).map(drop)
}

fn functions() -> Fallible<Vec<Function>> {
    let mut functions = vec![
        module_function!("_velodrome", c"sleep", py_sleep,
            c"sleep(delay, result=None)\n--\n\nSuspend for delay seconds, then return result.\n\nsleep(0) gives way \
              to what is queued; nothing happens before the coroutine is awaited."),
        module_function!("_velodrome", c"ensure_future", crate::ensure_future::py_ensure_future,
            c"ensure_future(coro_or_future, *, loop=None)\n--\n\nReturn a future as it is, or the Task that a \
              coroutine or another awaitable becomes."),
        module_function!("_velodrome", c"gather", crate::gather::py_gather,
            c"gather(*coros_or_futures, return_exceptions=False)\n--\n\nReturn a future of the list of all results.\n\n\
              Its exception is the first that occurs, unless they are to be returned among the\nresults."),
        module_function!("_velodrome", c"shield", crate::shield::py_shield,
            c"shield(arg)\n--\n\nReturn a future of the same outcome, whose cancellation does not reach the argument."),
        module_function!("_velodrome", c"wait", crate::wait::py_wait,
            c"wait(fs, *, timeout=None, return_when='ALL_COMPLETED')\n--\n\nWait for futures; return those that are \
              done and those that are not, as two sets."),
        module_function!("_velodrome", c"timeout", crate::timeouts::after,
            c"timeout(delay)\n--\n\nCancel what runs in a block after delay seconds, and raise TimeoutError.\n\nasync \
              with timeout(10): ...; None never does."),
        module_function!("_velodrome", c"timeout_at", crate::timeouts::at,
            c"timeout_at(when)\n--\n\nLike timeout(), at a time of the loop's clock."),
        module_function!("_velodrome", c"to_thread", crate::to_thread::py_to_thread,
            c"to_thread(func, /, *args, **kwargs)\n--\n\nCall func(*args, **kwargs) in a thread, in a copy of the \
              context; return its result."),
        module_function!("_velodrome", c"wrap_future", crate::wrap_future::py_wrap_future,
            c"wrap_future(future, *, loop=None)\n--\n\nReturn a future of the loop for one of concurrent.futures; \
              cancelling it cancels that."),
        module_function!("_velodrome", c"run_coroutine_threadsafe",
            crate::run_coroutine_threadsafe::py_run_coroutine_threadsafe,
            c"run_coroutine_threadsafe(coro, loop)\n--\n\nSubmit a coroutine to a loop of another thread.\n\nReturn a \
              concurrent.futures.Future of its outcome."),
        module_function!("_velodrome", c"current_task", crate::introspection::py_current_task,
            c"current_task(loop=None)\n--\n\nReturn the task that runs on the loop just now, or None."),
        module_function!("_velodrome", c"all_tasks", crate::introspection::py_all_tasks,
            c"all_tasks(loop=None)\n--\n\nReturn the set of the loop's tasks that are not done."),
        module_function!("_velodrome", c"isfuture", crate::ensure_future::py_is_future,
            c"isfuture(obj)\n--\n\nReturn True if obj is a future of asyncio's kind."),
        module_function!("_velodrome", c"iscoroutine", crate::ensure_future::py_is_coroutine,
            c"iscoroutine(obj)\n--\n\nReturn True if obj is a coroutine."),
        module_function!("_velodrome", c"run", crate::runner::py_run_function,
            c"run(main, *, debug=None, loop_factory=None)\n--\n\nRun a coroutine on a new loop and return its \
              result.\n\nIt cannot be called while another loop runs in the same thread."),
        module_function!("_velodrome", c"wait_for", crate::wait_for::py_wait_for,
            c"wait_for(fut, timeout)\n--\n\nWait for an awaitable, for so many seconds at most.\n\nWhen the time is up \
              it is cancelled and TimeoutError is raised."),
        module_function!("_velodrome", c"_tls", crate::tls::py_verdict,
            c"_tls()\n--\n\nHow TLS connections are read and written: natively, or why not."),
        module_function!("_velodrome", c"_tls_settle", crate::tls::py_settle,
            c"_tls_settle(protocol_class, transport_class, again_errors, object_class, socket_class, stages)\n--\n\n\
              Called once, with the classes that `_tls.py` makes."),
        module_function!("_velodrome", c"_layout", py_layout,
            c"_layout()\n--\n\nWhich of asyncio's private structures were recognised."),
    ];
    if state().minor >= 12 {
        functions.push(module_function!("_velodrome", c"create_eager_task_factory", crate::eager::py_create,
            c"create_eager_task_factory(custom_task_constructor)\n--\n\nReturn a task factory whose tasks begin within \
              the call that makes them.\n\nThe constructor takes what Task takes, eager_start among it."));
    }
    functions.push(if create_task::define()? == HandsOn::All {
        module_function!("_velodrome", c"create_task", create_task::py_create_task,
            c"create_task(coro, **kwargs)\n--\n\nSchedule a coroutine on the running loop; return its Task.")
    } else {
        module_function!("_velodrome", c"create_task", create_task::py_create_task,
            c"create_task(coro, *, name=None, context=None)\n--\n\nSchedule a coroutine on the running loop; return \
              its Task.")
    });
    functions.push(if state().minor >= 13 {
        module_function!("_velodrome", c"as_completed", crate::as_completed::py_as_completed,
            c"as_completed(fs, *, timeout=None)\n--\n\nReturn an iterator over awaitables in the order in which they are \
              done.\n\n`async for` gives the futures themselves, `for` a coroutine for each.")
    } else {
        module_function!("_velodrome", c"as_completed", crate::as_completed_generator::py_as_completed,
            c"as_completed(fs, *, timeout=None)\n--\n\nReturn an iterator over coroutines, each of which gives the result \
              of the next future\nthat is done.")
    });
    functions.extend(panic_test_functions());
    Ok(functions)
}

fn py_sleep(args: Args<'_>) -> Fallible<Ref> {
    if let ([delay], false) = (args.positional(), args.has_keywords()) {
        return sleep::create(delay, None).map(Own::into_ref);
    }
    let [delay, result] =
        args.parse(&Signature { function: "sleep", names: ["delay", "result"], positional: 2, required: 1 })?;
    sleep::create(delay.unwrap_or(none()), result).map(Own::into_ref)
}

fn py_layout(_args: Args<'_>) -> Fallible<Ref> {
    let mut entries = Vec::new();
    for (name, found) in crate::cpython::layout::proven() {
        entries.push((object::text(name)?, boolean(found)));
    }
    object::dict(&entries.iter().map(|(name, found)| (&**name, *found)).collect::<Vec<_>>())
}

#[cfg(not(feature = "panic-test"))]
fn panic_test_functions() -> Vec<Function> {
    Vec::new()
}

/// `_entries()` and `_arm_panic(path)`, in builds that test what happens when an entry panics.
#[cfg(feature = "panic-test")]
fn panic_test_functions() -> Vec<Function> {
    use crate::cpython::entry::panic_test;
    fn entries(_args: Args<'_>) -> Fallible<Ref> {
        let paths: Fallible<Vec<Ref>> = panic_test::entries().iter().map(|path| object::text(path)).collect();
        object::list(&paths?)
    }
    fn arm(args: Args<'_>) -> Fallible<Ref> {
        let [path] =
            args.parse(&Signature { function: "_arm_panic", names: ["path"], positional: 1, required: 0 })?;
        let path = path.filter(|path| !path.is_none()).map(|path| path.to_text());
        match panic_test::arm(path) {
            Some(left) => object::text(&left),
            None => Ok(none().own()),
        }
    }
    vec![
        module_function!("_velodrome", c"_entries", entries, c"_entries()\n--\n\nThe paths of all entries."),
        module_function!("_velodrome", c"_arm_panic", arm,
            c"_arm_panic(path=None)\n--\n\nMake an entry panic when it is next called; return what was armed."),
    ]
}
