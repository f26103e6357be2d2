//! What the ready queue holds: small tagged jobs rather than callbacks.

use crate::cpython::host::Call;
use crate::cpython::prefetch;
use crate::cpython::{Fallible, Inst, Own, Ref, Visitor};
use crate::event_loop::EventLoop;
use crate::future::{self, Future};
use crate::handle::{self, Handle};
use crate::listener::Listener;
use crate::sockets::{self, SendFile, SocketCall, send_file};
use crate::state::state;
use crate::task::{self, Task};
use crate::thread_safe_handle::{self, ThreadSafeHandle};
use crate::timeouts::{self, Timeout};
use crate::timer_handle::TimerHandle;
use crate::transport::datagram::{self, DatagramTransport};
use crate::transport::read_pipe::{self, ReadPipe};
use crate::transport::write_pipe::{self, WritePipe};
use crate::transport::{self, SocketTransport};

/// One thing to do.
#[derive(Clone, Debug)]
pub enum Job {
    /// A task's next step.
    Step(Own<Task>),
    /// A step of a task that waited.
    Wakeup(Own<Task>),
    /// A callback.
    Handle(Own<Handle>),
    /// A callback whose time has come.
    Timer(Own<TimerHandle>),
    /// A callback from another thread.
    ThreadSafe(Own<ThreadSafeHandle>),
    /// A handle that is not ours, run by its `_run`.
    Foreign(Ref),
    /// A future that gets the result `None`, unless it is done: the end of a sleep.
    Resolve(Own<Future>),
    /// A transport's socket can be read.
    Readable(Own<SocketTransport>),
    /// A transport's socket can be written.
    Writable(Own<SocketTransport>),
    /// A socket of datagrams can be read.
    DatagramReadable(Own<DatagramTransport>),
    /// A socket of datagrams can be written.
    DatagramWritable(Own<DatagramTransport>),
    /// A pipe can be read.
    PipeReadable(Own<ReadPipe>),
    /// A pipe can be written.
    PipeWritable(Own<WritePipe>),
    /// A pipe that is written to has lost its reader.
    PipeHungUp(Own<WritePipe>),
    /// A socket that a `sock_*` waits for is ready.
    Socket(Own<SocketCall>),
    /// A socket that a file is on its way to takes more.
    SendFile(Own<SendFile>),
    /// One that is told natively of a future that is done.
    Listener(Listener),
    /// A timeout whose time is up.
    Expire(Own<Timeout>),
    /// What a Rust future, or its waker, has asked for.
    Call(Call),
    /// A signal for the loop's handlers.
    Signal(u8),
}

// The queue is read and written all the time: a job is a tag and a pointer.
const _: () = assert!(std::mem::size_of::<Job>() == 2 * std::mem::size_of::<usize>());

impl Job {
    /// Does it, and is done with. Fails only with what stops the loop; other exceptions go to the loop's exception handler.
    #[inline(always)]
    pub fn run(self, event_loop: &Inst<EventLoop>) -> Fallible<()> {
        match self {
            Job::Step(task) => run_task(event_loop, &task, false),
            Job::Wakeup(task) => run_task(event_loop, &task, true),
            Job::Handle(handle) => handle::run(&*handle),
            Job::Timer(timer) => {
                timer.scheduled_slot().set(crate::cpython::object::boolean(false).own());
                handle::run(&*timer)
            }
            Job::ThreadSafe(handle) => thread_safe_handle::run(&handle),
            Job::Foreign(handle) => run_foreign(&handle),
            Job::Resolve(future) => resolve(event_loop, &future),
            Job::Readable(transport) => transport::run_readable(&transport, event_loop),
            Job::Writable(transport) => transport::run_writable(&transport, event_loop),
            Job::DatagramReadable(transport) => datagram::run_readable(&transport, event_loop),
            Job::DatagramWritable(transport) => datagram::run_writable(&transport, event_loop),
            Job::PipeReadable(pipe) => read_pipe::run_readable(&pipe, event_loop),
            Job::PipeWritable(pipe) => write_pipe::run_writable(&pipe, event_loop),
            Job::PipeHungUp(pipe) => write_pipe::run_hung_up(&pipe, event_loop),
            Job::Socket(call) => sockets::run_ready(&call),
            Job::SendFile(sending) => send_file::run_ready(&sending),
            Job::Listener(listener) => crate::listener::run(event_loop, &listener),
            Job::Expire(timeout) => expire(event_loop, &timeout),
            Job::Call(call) => {
                call.run(event_loop);
                Ok(())
            }
            Job::Signal(number) => handle_signal(event_loop, number),
        }
    }

    /// Whether it is a handle that was cancelled.
    pub fn is_cancelled(&self) -> bool {
        match self {
            Job::Handle(handle) => handle::is_cancelled(&**handle),
            Job::Timer(timer) => handle::is_cancelled(&**timer),
            _ => false,
        }
    }

    /// Has the memory fetched that running this job touches first.
    #[inline]
    pub fn prefetch(&self) {
        match self {
            Job::Step(task) | Job::Wakeup(task) => prefetch::instance(task),
            Job::Handle(handle) => prefetch::instance(handle),
            Job::Timer(timer) => prefetch::instance(timer),
            Job::Resolve(future) => prefetch::instance(future),
            Job::ThreadSafe(handle) => prefetch::instance(handle),
            Job::Readable(transport) | Job::Writable(transport) => prefetch::instance(transport),
            Job::DatagramReadable(transport) | Job::DatagramWritable(transport) => {
                prefetch::instance(transport)
            }
            Job::PipeReadable(pipe) => prefetch::instance(pipe),
            Job::PipeWritable(pipe) | Job::PipeHungUp(pipe) => prefetch::instance(pipe),
            Job::Socket(call) => prefetch::instance(call),
            Job::SendFile(sending) => prefetch::instance(sending),
            Job::Listener(_) | Job::Expire(_) | Job::Foreign(_) | Job::Call(_) | Job::Signal(_) => {}
        }
    }

    /// Has the memory fetched that this job touches through what `prefetch` has fetched.
    #[inline]
    pub fn prefetch_further(&self) {
        if let Job::Step(task) | Job::Wakeup(task) = self {
            task.prefetch_step();
        }
    }

    /// Shows what is owned to the garbage collector.
    pub fn traverse(&self, visitor: &mut Visitor<'_>) {
        match self {
            Job::Step(task) | Job::Wakeup(task) => visitor.object(task.obj()),
            Job::Handle(handle) => visitor.object(handle.obj()),
            Job::Timer(timer) => visitor.object(timer.obj()),
            Job::ThreadSafe(handle) => visitor.object(handle.obj()),
            Job::Foreign(handle) => visitor.object(handle),
            Job::Resolve(future) => visitor.object(future.obj()),
            Job::Readable(transport) | Job::Writable(transport) => visitor.object(transport.obj()),
            Job::DatagramReadable(transport) | Job::DatagramWritable(transport) => {
                visitor.object(transport.obj())
            }
            Job::PipeReadable(pipe) => visitor.object(pipe.obj()),
            Job::PipeWritable(pipe) | Job::PipeHungUp(pipe) => visitor.object(pipe.obj()),
            Job::Socket(call) => visitor.object(call.obj()),
            Job::SendFile(sending) => visitor.object(sending.obj()),
            Job::Listener(listener) => visitor.object(listener.obj()),
            Job::Expire(timeout) => visitor.object(timeout.obj()),
            Job::Call(_) | Job::Signal(_) => {}
        }
    }

    /// The call, if it is one.
    pub fn as_call(&self) -> Option<&Call> {
        if let Job::Call(call) = self { Some(call) } else { None }
    }

    /// The handle that asyncio would have queued, for those who look into the queue.
    pub fn as_handle(&self) -> Fallible<Option<Ref>> {
        Ok(Some(match self {
            Job::Step(task) => task_handle(task, &*task::step_callable(task)?)?,
            Job::Wakeup(task) => task_handle(task, &*task::wakeup_callable(task)?)?,
            Job::Handle(handle) => handle.obj().own(),
            Job::Timer(timer) => timer.obj().own(),
            Job::ThreadSafe(handle) => handle.obj().own(),
            Job::Foreign(handle) => handle.clone(),
            Job::Readable(transport) => transport::stream::readable_handle(transport)?,
            Job::Writable(transport) => transport::stream::writable_handle(transport)?,
            Job::DatagramReadable(transport) => transport::stream::readable_handle(transport)?,
            Job::DatagramWritable(transport) => datagram::writable_handle(transport)?,
            Job::PipeReadable(pipe) => transport::stream::readable_handle(pipe)?,
            Job::PipeWritable(pipe) => transport::stream::writable_handle(pipe)?,
            Job::PipeHungUp(pipe) => transport::stream::readable_handle(pipe)?,
            Job::Socket(call) => sockets::as_handle(call)?,
            Job::SendFile(sending) => send_file::as_handle(sending)?,
            Job::Listener(listener) => return listener.as_handle().map(Some),
            Job::Resolve(_) | Job::Expire(_) | Job::Call(_) | Job::Signal(_) => return Ok(None),
        }))
    }
}

fn task_handle(task: &Inst<Task>, callback: &crate::cpython::Obj) -> Fallible<Ref> {
    let event_loop = future::loop_of(task)?;
    handle::with_context(&event_loop, callback, &[], task::context(task)?).map(Own::into_ref)
}

/// A step, in the task's context.
#[inline(never)]
fn run_task(event_loop: &Inst<EventLoop>, task: &Inst<Task>, woken: bool) -> Fallible<()> {
    match task::within_context(task, event_loop, |task| task::run(task, event_loop.obj(), woken)) {
        Ok(()) => Ok(()),
        Err(raised) => {
            let handle = || task_handle(task, &*task::step_callable(task)?);
            handle::failed(event_loop.obj(), raised, handle)
        }
    }
}

fn handle_signal(event_loop: &Inst<EventLoop>, number: u8) -> Fallible<()> {
    let name = &state().names.handle_signal;
    let number = crate::cpython::object::int(i64::from(number))?;
    match event_loop.obj().call_method(name, &[&number]) {
        Ok(_none) => Ok(()),
        Err(raised) => handle::failed(event_loop.obj(), raised, || {
            let context = crate::cpython::context::copy_current()?;
            let callback = event_loop.obj().get(name)?;
            handle::with_context(event_loop.obj(), &callback, &[&number], context).map(Own::into_ref)
        }),
    }
}

fn run_foreign(handle: &Ref) -> Fallible<()> {
    if handle.get(&*crate::cpython::object::interned(c"_cancelled")?)?.truthy()? {
        return Ok(());
    }
    handle.call_method(&state().names.run_private, &[]).map(drop)
}

fn resolve(event_loop: &Inst<EventLoop>, future: &Inst<Future>) -> Fallible<()> {
    let core = future::FutureLike::core(&**future);
    core.timer_came.set(true);
    if !core.is_pending() {
        return Ok(());
    }
    match future::finish(future, crate::cpython::object::none().own()) {
        Ok(()) => Ok(()),
        Err(raised) => {
            let release = &state().set_result_unless_cancelled;
            let handle = || {
                let context = crate::cpython::context::copy_current()?;
                handle::with_context(event_loop.obj(), release, &[future.obj()], context).map(Own::into_ref)
            };
            handle::failed(event_loop.obj(), raised, handle)
        }
    }
}

fn expire(event_loop: &Inst<EventLoop>, timeout: &Inst<Timeout>) -> Fallible<()> {
    match timeouts::come_to_turn(timeout) {
        Ok(()) => Ok(()),
        Err(raised) => {
            let handle = || {
                let context = crate::cpython::context::copy_current()?;
                let callback = timeout.obj().get(&*crate::cpython::object::interned(c"_on_timeout")?)?;
                handle::with_context(event_loop.obj(), &callback, &[], context).map(Own::into_ref)
            };
            handle::failed(event_loop.obj(), raised, handle)
        }
    }
}
