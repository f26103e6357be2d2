//! Which transport uses which descriptor: a program must not watch, nor give to a second transport, one that is in use.

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::RawFd;

use crate::cpython::object::{self, none};
use crate::cpython::{Fallible, Inst, Obj, Raised, Ref, Visitor};
use crate::event_loop::EventLoop;
use crate::transport::SocketTransport;

/// Weak references to a loop's transports, by the number of their descriptor. Most are ours, some are asyncio's.
#[derive(Debug, Default)]
pub struct Transports(RefCell<HashMap<RawFd, Ref>>);

impl Transports {
    /// Notes a new transport.
    pub fn add(&self, descriptor: RawFd, transport: &Obj) -> Fallible<()> {
        let weak = object::weak_reference(transport, None)?;
        let old = self.0.borrow_mut().insert(descriptor, weak);
        drop(old);
        Ok(())
    }

    /// Forgets one that is closed, unless another has got the number meanwhile.
    pub fn remove(&self, descriptor: RawFd, transport: &Obj) {
        if self.at(descriptor).is_some_and(|known| known.is(transport)) {
            let old = self.0.borrow_mut().remove(&descriptor);
            drop(old);
        }
    }

    /// Forgets all.
    pub fn clear(&self) {
        let old = self.0.take();
        drop(old);
    }

    /// Shows the references to the garbage collector.
    pub fn traverse(&self, visitor: &mut Visitor<'_>) {
        if let Ok(known) = self.0.try_borrow() {
            known.values().for_each(|weak| visitor.object(weak));
        }
    }

    /// The transport that has this descriptor, if it is alive.
    fn at(&self, descriptor: RawFd) -> Option<Ref> {
        let weak = self.0.borrow().get(&descriptor).cloned()?;
        object::referent(&weak)
    }

    /// Refuses a descriptor that an open transport uses; `shown` is what the program called it by.
    #[inline]
    pub fn refuse(&self, descriptor: i64, shown: &Obj) -> Fallible<()> {
        if self.0.borrow().is_empty() {
            return Ok(());
        }
        self.refuse_known(descriptor, shown)
    }

    fn refuse_known(&self, descriptor: i64, shown: &Obj) -> Fallible<()> {
        let known = RawFd::try_from(descriptor).ok().and_then(|descriptor| self.at(descriptor));
        let Some(known) = known else { return Ok(()) };
        let closing = match Inst::<SocketTransport>::of(&known) {
            Some(ours) => ours.is_closing(),
            None => known.call_method(&*object::interned(c"is_closing")?, &[])?.truthy()?,
        };
        if closing {
            return Ok(());
        }
        Err(Raised::runtime_error(&format!(
            "File descriptor {} is used by transport {}",
            shown.shown(),
            known.shown()
        )))
    }
}

/// The number that a transport's descriptor had when it was made.
fn number_of(transport: &Obj) -> Fallible<RawFd> {
    let number = transport.get(&*object::interned(c"_sock_fd")?)?.to_i64()?;
    crate::cpython::descriptor::for_the_kernel(number)
}

/// `_lend_descriptor(transport)`: what follows may watch its descriptor, until it is taken back.
pub fn py_lend(this: &Inst<EventLoop>, transport: &Obj) -> Fallible<Ref> {
    this.transports.remove(number_of(transport)?, transport);
    Ok(none().own())
}

/// `_take_descriptor_back(transport)`.
pub fn py_take_back(this: &Inst<EventLoop>, transport: &Obj) -> Fallible<Ref> {
    if !Inst::<SocketTransport>::of(transport).is_some_and(|ours| ours.is_released()) {
        this.transports.add(number_of(transport)?, transport)?;
    }
    Ok(none().own())
}

/// `_ensure_fd_no_transport(fd)`.
pub fn py_ensure_no_transport(this: &Inst<EventLoop>, file: &Obj) -> Fallible<Ref> {
    let number = if file.is_any_int() {
        file.to_i64_or_nearest()?
    } else {
        crate::cpython::descriptor::asked(file)?.to_i64_or_nearest()?
    };
    this.transports.refuse(number, file)?;
    Ok(none().own())
}
