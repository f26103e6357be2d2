//! The methods and attributes of runners and the function `run`, as Python sees them, and the class.

use crate::cpython::object::{self, none};
use crate::cpython::{Args, Fallible, Inst, Obj, Own, Raised, Ref, Signature, Spec};
use crate::original::Code;
use crate::runner::interrupt::py_on_sigint;
use crate::runner::{
    KNOWN, Known, Phase, Runner, begin, close, end, in_asyncios_place, initialize, lazy_init,
    refuse_running_loop, run, set_phase,
};

/// `run(main, *, debug=None, loop_factory=None)`.
pub fn py_run_function(args: Args<'_>) -> Fallible<Ref> {
    let [main, debug, loop_factory] = args.parse(&Signature {
        function: "run",
        names: ["main", "debug", "loop_factory"],
        positional: 1,
        required: 1,
    })?;
    refuse_running_loop(if in_asyncios_place()? { "asyncio.run" } else { "velodrome.run" })?;
    let runner = Own::<Runner>::new()?;
    initialize(&runner, debug, loop_factory);
    lazy_init(&runner)?;
    let mut result = none().own();
    let outcome = run(&runner, main.unwrap_or(none()), None).map(|returned| result = returned);
    Raised::finally(outcome, || close(&runner)).map(|()| result)
}

fn py_init(this: &Inst<Runner>, args: Args<'_>) -> Fallible<()> {
    let [debug, loop_factory] = args.parse(&Signature {
        function: "Runner.__init__",
        names: ["debug", "loop_factory"],
        positional: 0,
        required: 0,
    })?;
    initialize(this, debug, loop_factory);
    Ok(())
}

fn py_enter(this: &Inst<Runner>) -> Fallible<Ref> {
    begin(this)?;
    Ok(this.obj().own())
}

fn py_exit(this: &Inst<Runner>, args: Args<'_>) -> Fallible<Ref> {
    let [_, _, _] = args.parse(&Signature {
        function: "Runner.__exit__",
        names: ["exc_type", "exc_val", "exc_tb"],
        positional: 3,
        required: 3,
    })?;
    end(this)?;
    Ok(none().own())
}

fn py_close(this: &Inst<Runner>) -> Fallible<Ref> {
    close(this)?;
    Ok(none().own())
}

fn py_get_loop(this: &Inst<Runner>) -> Fallible<Ref> {
    begin(this)?;
    Ok(this.event_loop.get_or_none())
}

fn py_run(this: &Inst<Runner>, args: Args<'_>) -> Fallible<Ref> {
    let [coro, context] = args.parse(&Signature {
        function: "Runner.run",
        names: ["coro", "context"],
        positional: 1,
        required: 1,
    })?;
    run(this, coro.unwrap_or(none()), context)
}

fn py_lazy_init(this: &Inst<Runner>) -> Fallible<Ref> {
    lazy_init(this)?;
    Ok(none().own())
}

fn state_of(phase: Phase) -> Fallible<Ref> {
    let name = match phase {
        Phase::Created => "created",
        Phase::Initialized => "initialized",
        Phase::Closed => "closed",
    };
    let known = KNOWN.get();
    known.runners.get(&known.phases)?.call(&[&*object::text(name)?])
}

fn py_state(this: &Inst<Runner>) -> Fallible<Ref> {
    match this.state.get() {
        Some(state) => Ok(state),
        None => state_of(this.phase.get()),
    }
}

/// Derived classes may have states of their own, which are none of asyncio's.
fn py_set_state(this: &Inst<Runner>, value: Option<&Obj>) -> Fallible<()> {
    let value = value.unwrap_or(none());
    for phase in [Phase::Created, Phase::Initialized, Phase::Closed] {
        if state_of(phase)?.is(value) {
            set_phase(this, phase);
            return Ok(());
        }
    }
    set_phase(this, Phase::Created);
    this.state.set(value.own());
    Ok(())
}

fn py_interrupts(this: &Inst<Runner>) -> Fallible<Ref> {
    object::int(i64::from(this.interrupts.get()))
}

fn py_set_interrupts(this: &Inst<Runner>, value: Option<&Obj>) -> Fallible<()> {
    let count = value.map_or(Ok(0), Obj::to_i64)?;
    this.interrupts.set(u32::try_from(count).unwrap_or(0));
    Ok(())
}

flag_accessors! { Runner;
    sets_event_loop: py_sets_event_loop py_set_sets_event_loop;
}

slot_accessors! { Runner;
    debug: py_debug py_set_debug;
    loop_factory: py_loop_factory py_set_loop_factory;
    event_loop: py_loop py_set_loop;
    context: py_context py_set_context;
}

/// Makes the class.
pub fn define() -> Fallible<Ref> {
    let original = object::import(c"asyncio.runners")?.get(&*object::interned(c"Runner")?)?;
    fn nothing(_args: Args<'_>) -> Fallible<Ref> {
        Ok(none().own())
    }
    let nothing = module_function!("Runner", c"nothing", nothing, c"nothing()\n--\n\nWake the loop.");
    KNOWN.set(Known::new(
        Code::of(&original, c"run")?.uses("isawaitable")?,
        Code::of(&original, c"close")?.uses("THREAD_JOIN_TIMEOUT")?,
        crate::cpython::module::callable(nothing)?,
    )?);
    crate::cpython::spec::define::<Runner>(Spec {
        base: None,
        doc: Some(
            c"Runner(*, debug=None, loop_factory=None)\n--\n\nA loop that lives as long as a block, to run one thing \
              after the other on it.\n\n    with Runner() as runner:\n        runner.run(main())\n\nThe loop is made \
              when it is first needed. At the end all its tasks are cancelled and waited\nfor, and it is closed.",
        ),
        methods: class_methods!(Runner, "Runner";
            c"__enter__" => none py_enter, c"__enter__($self, /)\n--\n\nMake the loop.";
            c"__exit__" => any py_exit,
                c"__exit__($self, exc_type, exc_val, exc_tb, /)\n--\n\nClose the runner.";
            c"close" => none py_close,
                c"close($self, /)\n--\n\nCancel all tasks, shut down what is left, and close the loop.";
            c"get_loop" => none py_get_loop, c"get_loop($self, /)\n--\n\nReturn the runner's event loop.";
            c"run" => any py_run,
                c"run($self, coro, *, context=None)\n--\n\nRun a coroutine on the runner's loop and return its \
                  result.\n\nThe first SIGINT cancels it, where SIGINT would raise KeyboardInterrupt.";
            c"_lazy_init" => none py_lazy_init, c"_lazy_init($self, /)\n--\n\nMake the loop, unless there is one.";
            c"_on_sigint" => any py_on_sigint,
                c"_on_sigint($self, signum, frame, main_task)\n--\n\nCancel what runs; the second time, interrupt.";
        ),
        attributes: class_attributes!(Runner, "Runner";
            c"_state" => py_state, py_set_state;
            c"_debug" => py_debug, py_set_debug;
            c"_loop_factory" => py_loop_factory, py_set_loop_factory;
            c"_loop" => py_loop, py_set_loop;
            c"_context" => py_context, py_set_context;
            c"_interrupt_count" => py_interrupts, py_set_interrupts;
            c"_set_event_loop" => py_sets_event_loop, py_set_sets_event_loop;
        ),
        slots: class_slots!(Runner, "Runner"; init py_init),
    })
}
