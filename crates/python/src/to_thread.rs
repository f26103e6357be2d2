//! `to_thread`: a function's call in the loop's executor, in a copy of the context.

use crate::cpython::object;
use crate::cpython::{Args, Fallible, Inst, Raised, Ref};
use crate::operation::{self, Kind, Operation, Step};

static TO_THREAD: Kind =
    Kind { name: "to_thread", qualname: "to_thread", begin, resume: |_, outcome| outcome.map(Step::Done) };

/// `to_thread(func, /, *args, **kwargs)`: `first` is all that the function is called with, itself in front; `second`
/// the names of the keyword arguments, which stand last.
pub fn py_to_thread(args: Args<'_>) -> Fallible<Ref> {
    if args.positional().is_empty() {
        return Err(Raised::type_error("to_thread() missing 1 required positional argument: 'func'"));
    }
    let (values, names) = args.keep()?;
    let operation = operation::unowned(&TO_THREAD)?;
    operation.first.set(values);
    if let Some(names) = names {
        operation.second.set(names);
    }
    Ok(operation.into_ref())
}

fn begin(operation: &Inst<Operation>) -> Fallible<Step> {
    let Some(event_loop) = crate::registry::running_loop()? else {
        return Err(Raised::runtime_error("no running event loop"));
    };
    let run = crate::cpython::context::copy_current()?.get(&*object::interned(c"run")?)?;
    let values = operation.first.get_or_none().items()?;
    let arguments: Vec<_> = std::iter::once(&*run).chain(values.iter().map(|value| &**value)).collect();
    let partial = object::import(c"functools")?.get(&*object::interned(c"partial")?)?;
    let call = match operation.second.get() {
        Some(names) => partial.call_with_keywords(&arguments, &names)?,
        None => partial.call(&arguments)?,
    };
    let name = object::interned(c"run_in_executor")?;
    event_loop.call_method(&name, &[object::none(), &call]).map(Step::Await)
}
