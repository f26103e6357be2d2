//! `create_eager_task_factory`: task factories whose tasks begin at once; from 3.12 on.
//!
//! Programs recognise asyncio's factories by their code object, and take the constructor out of their closure (anyio, to
//! get around the factory). So ours, which have neither, show those of asyncio's.

use crate::cpython::global::Global;
use crate::cpython::object::{self, boolean, none};
use crate::cpython::{
    Args, Class, Fallible, Home, Inst, Obj, Own, Raised, Ref, Signature, Slot, Spec, Visitor,
};
use crate::event_loop::EventLoop;
use crate::original::Code;
use crate::state::state;
use crate::task::{self, Options, Task};

/// A task factory.
#[derive(Debug)]
pub struct EagerFactory {
    constructor: Slot,
}

static HOME: Home = Home::new();

impl Class for EagerFactory {
    const NAME: &'static std::ffi::CStr = c"velodrome._EagerTaskFactory";
    const SUBCLASSED: bool = false;
    const DICT: bool = true;

    fn home() -> &'static Home {
        &HOME
    }

    fn fresh() -> EagerFactory {
        EagerFactory { constructor: Slot::empty() }
    }

    fn traverse(this: &Inst<EagerFactory>, visitor: &mut Visitor<'_>) {
        visitor.slot(&this.constructor);
    }

    fn clear(this: &Inst<EagerFactory>) {
        this.constructor.clear();
    }
}

/// What is looked up once, and how this version behaves.
#[derive(Debug)]
struct Known {
    /// The code of asyncio's factories.
    code: Ref,
    cell_class: Ref,
    /// asyncio's own factory, as it was at import.
    original: Ref,
    /// Any keyword is passed on, and `eager_start` may be false (from a patch release of 3.13 on); otherwise there are
    /// a name and a context.
    passes_all_on: bool,
    /// `("loop", "name", "context", "eager_start")` and `("loop", "eager_start")`.
    all_names: Ref,
    first_names: Vec<Ref>,
}

static KNOWN: Global<Known> = Global::new();

/// `create_eager_task_factory(custom_task_constructor)`.
pub fn py_create(args: Args<'_>) -> Fallible<Ref> {
    let constructor = args.only("create_eager_task_factory", "custom_task_constructor")?;
    create(constructor).map(Own::into_ref)
}

fn create(constructor: &Obj) -> Fallible<Own<EagerFactory>> {
    let this = Own::<EagerFactory>::new()?;
    this.constructor.set(constructor.own());
    Ok(this)
}

fn py_call(this: &Inst<EagerFactory>, args: Args<'_>) -> Fallible<Ref> {
    let known = KNOWN.get();
    let constructor = this.constructor.get_or_none();
    if !known.passes_all_on {
        let [event_loop, coro, name, context] = args.parse(&Signature {
            function: FACTORY,
            names: ["loop", "coro", "name", "context"],
            positional: 2,
            required: 2,
        })?;
        let [event_loop, coro, name, context] =
            [event_loop, coro, name, context].map(|given| given.unwrap_or(none()));
        if let Some(task) = create_ours(&constructor, event_loop, coro, name, context)? {
            return Ok(task);
        }
        return constructor
            .call_with_keywords(&[coro, event_loop, name, context, boolean(true)], &known.all_names);
    }
    let ([event_loop, coro], others) = args.two_and_keywords(FACTORY, ["loop", "coro"])?;
    let eager_start = others.iter().position(|(name, _)| name.to_text() == "eager_start");
    let given = eager_start.map_or(boolean(true), |place| others[place].1);
    let others: Vec<(&Obj, &Obj)> = others
        .iter()
        .enumerate()
        .filter(|(place, _)| Some(*place) != eager_start)
        .map(|(_, pair)| *pair)
        .collect();
    if given.is(boolean(true))
        && others.is_empty()
        && let Some(task) = create_ours(&constructor, event_loop, coro, none(), none())?
    {
        return Ok(task);
    }
    let values: Vec<&Obj> =
        [coro, event_loop, given].into_iter().chain(others.iter().map(|(_, value)| *value)).collect();
    let names: Vec<&Obj> =
        known.first_names.iter().map(|name| &**name).chain(others.iter().map(|(name, _)| *name)).collect();
    constructor.call_with_keywords(&values, &*object::tuple(&names)?)
}

const FACTORY: &str = "create_eager_task_factory.<locals>.factory";

/// A task of ours on a loop of ours, without the way through keyword arguments.
fn create_ours(
    constructor: &Obj,
    event_loop: &Obj,
    coro: &Obj,
    name: &Obj,
    context: &Obj,
) -> Fallible<Option<Ref>> {
    let Some(ours) = Inst::<EventLoop>::of(event_loop).filter(|_| constructor.is(Task::home().class()))
    else {
        return Ok(None);
    };
    let given = |value: &'_ Obj| !value.is_none();
    let options = Options {
        name: Some(name).filter(|name| given(name)),
        context: Some(context).filter(|context| given(context)),
        eager_start: true,
    };
    task::create(ours, coro, options).map(|task| Some(task.into_ref()))
}

fn py_code(_this: &Inst<EagerFactory>) -> Fallible<Ref> {
    Ok(KNOWN.get().code.clone())
}

fn py_closure(this: &Inst<EagerFactory>) -> Fallible<Ref> {
    object::tuple(&[&*KNOWN.get().cell_class.call(&[&*this.constructor.get_or_none()])?])
}

fn py_name(_this: &Inst<EagerFactory>) -> Fallible<Ref> {
    object::text("factory")
}

fn py_signature(_this: &Inst<EagerFactory>) -> Fallible<Ref> {
    object::import(c"inspect")?.call_method(&*object::interned(c"signature")?, &[&KNOWN.get().original])
}

fn py_qualname(_this: &Inst<EagerFactory>) -> Fallible<Ref> {
    object::text(FACTORY)
}

fn py_repr(this: &Inst<EagerFactory>) -> Fallible<Ref> {
    object::text(&format!("<function {FACTORY} at {:p}>", std::ptr::from_ref(this)))
}

/// Makes the class, and the factory of our tasks.
pub fn define() -> Fallible<Ref> {
    let create_factory = Code::of(&state().tasks_module, c"create_eager_task_factory")?;
    let Some(factory) = create_factory.inner()?.into_iter().next() else {
        return Err(Raised::runtime_error("asyncio's eager task factories have no code"));
    };
    let [event_loop, name, context, eager_start] =
        [c"loop", c"name", c"context", c"eager_start"].map(object::interned);
    let (event_loop, eager_start) = (event_loop?, eager_start?);
    KNOWN.set(Known {
        passes_all_on: factory.takes_any_keyword()?,
        code: factory.object().own(),
        original: state().tasks_module.get(&*object::interned(c"eager_task_factory")?)?,
        cell_class: object::import(c"types")?.get(&*object::interned(c"CellType")?)?,
        all_names: object::tuple(&[&event_loop, &*name?, &*context?, &eager_start])?,
        first_names: vec![event_loop, eager_start],
    });
    crate::cpython::spec::define::<EagerFactory>(Spec {
        doc: Some(c"A task factory whose tasks begin within the call that makes them."),
        attributes: class_attributes!(EagerFactory, "EagerFactory";
            c"__code__" => py_code;
            c"__closure__" => py_closure;
            c"__name__" => py_name;
            c"__qualname__" => py_qualname;
            c"__signature__" => py_signature;
        ),
        slots: class_slots!(EagerFactory, "EagerFactory"; call py_call, repr py_repr),
        ..Spec::default()
    })?;
    create(Task::home().class()).map(Own::into_ref)
}
