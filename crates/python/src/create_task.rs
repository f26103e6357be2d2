//! `create_task` of the module and of groups: what of it the loop's method is given.

use crate::cpython::global::Global;
use crate::cpython::object::{self, none};
use crate::cpython::{Args, Fallible, Inst, Obj, Own, Raised, Ref, Signature};
use crate::event_loop::{self, EventLoop};
use crate::original::Code;
use crate::state::state;
use crate::task::{self, Options};

/// Which keywords are handed on. A program's own `create_task` may take no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandsOn {
    /// All that are given.
    All,
    /// The name, and the context if there is one.
    Name,
    /// The context if there is one; the name is set afterwards.
    Context,
}

impl HandsOn {
    /// What asyncio's function of this code does.
    pub fn as_in(code: &Code) -> Fallible<HandsOn> {
        if code.takes_any_keyword()? {
            return Ok(HandsOn::All);
        }
        Ok(if code.uses("_set_task_name")? { HandsOn::Context } else { HandsOn::Name })
    }
}

static FUNCTION: Global<HandsOn> = Global::new();

/// Asks asyncio's own function.
pub fn define() -> Fallible<HandsOn> {
    let hands_on = HandsOn::as_in(&Code::of(&state().tasks_module, c"create_task")?)?;
    FUNCTION.set(hands_on);
    Ok(hands_on)
}

/// `create_task(coro, …)`.
pub fn py_create_task(args: Args<'_>) -> Fallible<Ref> {
    let Some(event_loop) = crate::registry::running_loop()? else {
        return Err(Raised::runtime_error("no running event loop"));
    };
    spawn_with(&event_loop, args, "create_task", *FUNCTION.get())
}

/// `event_loop.create_task(coro, …)` for what `function` was called with.
#[inline]
pub fn spawn_with(
    event_loop: &Obj,
    args: Args<'_>,
    function: &'static str,
    hands_on: HandsOn,
) -> Fallible<Ref> {
    let ours = Inst::<EventLoop>::of(event_loop).filter(|ours| ours.makes_plain_tasks());
    if let (Some(ours), [coro], false) = (ours, args.positional(), args.has_keywords()) {
        return task::create(ours, coro, Options::default()).map(Own::into_ref);
    }
    if hands_on == HandsOn::All {
        return match ours {
            Some(ours) => event_loop::create_task(ours, args).map(Own::into_ref),
            None => args.forward(&*event_loop.get(&state().names.create_task)?, &[]),
        };
    }
    let [coro, name, context] =
        args.parse(&Signature { function, names: ["coro", "name", "context"], positional: 1, required: 1 })?;
    if let Some(ours) = ours {
        return event_loop::create_task(ours, args).map(Own::into_ref);
    }
    let (coro, name) = (coro.unwrap_or(none()), name.unwrap_or(none()));
    let context = context.filter(|context| !context.is_none());
    let create_task = event_loop.get(&state().names.create_task)?;
    if hands_on == HandsOn::Name {
        let keyword = object::interned(c"name")?;
        return match context {
            None => create_task.call_with_keywords(&[coro, name], &*object::tuple(&[&*keyword])?),
            Some(context) => {
                let keywords = object::tuple(&[&*keyword, &*object::interned(c"context")?])?;
                create_task.call_with_keywords(&[coro, name, context], &keywords)
            }
        };
    }
    let task = match context {
        None => create_task.call(&[coro])?,
        Some(context) => create_task.call_with_keywords(&[coro, context], &state().context_keyword)?,
    };
    state().tasks_module.call_method(&*object::interned(c"_set_task_name")?, &[&task, name])?;
    Ok(task)
}
