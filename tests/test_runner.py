"""Runner and run: asyncio's answers, in asyncio's place or beside it."""

import asyncio
import contextlib
import contextvars
import enum
import gc
import signal
import sys
import threading
import weakref

import pytest
import velodrome
from differential.compare import outcome
from differential.tasks import nothing

BOTH = pytest.mark.parametrize("aio", [asyncio, velodrome], ids=["asyncio", "velodrome"])


async def coroutine(value=1):
    return value


def both(program):
    """What a program gives with asyncio's and with ours, which have to agree."""
    answers = [program(asyncio), program(velodrome)]
    assert answers[0] == answers[1]
    return answers[0]


def theirs(**options):
    return asyncio.Runner(loop_factory=asyncio.SelectorEventLoop, **options)


@pytest.fixture(params=[theirs, velodrome.Runner], ids=["asyncio", "velodrome"])
def runner_class(request):
    return request.param


def test_bad_arguments():
    def program(aio):
        return [
            outcome(call, *arguments, **keywords)[0]
            for call in (aio.Runner, aio.run, aio.Runner().run, aio.Runner().get_loop, aio.Runner().close)
            for arguments, keywords in (
                ((), {"nothing": 1}),
                ((1, 2, 3, 4), {}),
                ((), {"debug": None, "bad": None}),
            )
        ]

    assert set(both(program)) == {"TypeError"}


@pytest.mark.parametrize(
    "what", [None, 1, "text", coroutine, object()], ids=["None", "1", "text", "f", "object"]
)
def test_what_cannot_be_run(what):
    def program(aio):
        with aio.Runner() as runner:
            return outcome(aio.run, what), outcome(runner.run, what), outcome(runner.run, coroutine())

    both(program)


def test_stages():
    def program(aio):
        runner = aio.Runner(debug=True)
        seen = [str(runner._state), runner._loop is None, runner._debug, runner._loop_factory]
        loop = runner.get_loop()
        seen += [str(runner._state), runner._loop is loop, loop.get_debug(), type(runner._context)]
        seen.append(runner.run(coroutine(2)))
        runner.close()
        seen += [str(runner._state), runner._loop is None, loop.is_closed(), runner._interrupt_count]
        for use in (runner.get_loop, runner.__enter__, runner._lazy_init):
            seen.append(outcome(use))
        last = coroutine()
        seen.append(outcome(runner.run, last))
        last.close()
        return seen

    both(program)


@pytest.mark.parametrize("debug", [None, False, True])
def test_a_loop_factory_makes_the_loop_and_nobody_makes_it_current(debug):
    def program(aio):
        made = []

        def factory():
            made.append(asyncio.SelectorEventLoop())
            return made[-1]

        async def main():
            return asyncio.get_running_loop() is made[0], made[0].get_debug()

        asyncio.set_event_loop(current := asyncio.SelectorEventLoop())
        try:
            with aio.Runner(loop_factory=factory, debug=debug) as runner:
                answer = runner.run(main()), runner.get_loop() is made[0], len(made)
            return *answer, asyncio.get_event_loop() is current, made[0].is_closed()
        finally:
            current.close()
            asyncio.set_event_loop(None)

    both(program)


def test_a_loop_factory_that_fails():
    def program(aio):
        def factory():
            raise ValueError("no loop")

        runner = aio.Runner(loop_factory=factory)
        last = coroutine()
        answers = [outcome(call) for call in (runner.get_loop, runner.__enter__, lambda: runner.run(last))]
        last.close()
        runner.close()
        return answers, str(runner._state)

    both(program)


def test_what_the_end_raises():
    """Whatever fails, the loop is closed; what the block raised is the context of what closing it raises."""

    def program(aio):
        class Loop(asyncio.SelectorEventLoop):
            async def shutdown_asyncgens(self):
                raise ValueError("shutdown")

        runner = aio.Runner(loop_factory=Loop)
        loop = runner.get_loop()
        answers = [outcome(runner.close), loop.is_closed(), str(runner._state)]
        try:
            aio.run(fail(), **({"loop_factory": Loop} if takes_factory(aio) else {}))
        except Exception as error:
            answers += [str(error), type(error.__context__)] if takes_factory(aio) else []
        return answers

    async def fail():
        raise KeyError("main")

    def takes_factory(aio):
        return sys.version_info >= (3, 12)

    both(program)


def test_tasks_that_fail_at_the_end_are_reported():
    def program(aio):
        reports = []

        async def left(kind):
            try:
                await asyncio.sleep(60)
            finally:
                if kind is not None:
                    raise kind("at the end")

        async def main():
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda loop, context: reports.append(context))
            tasks = [loop.create_task(left(kind)) for kind in (None, ValueError, None)]
            await asyncio.sleep(0)
            return len(tasks)

        assert aio.run(main()) == 3
        return [(report["message"], repr(report["exception"]), sorted(report)) for report in reports]

    both(program)


def test_a_context_of_its_own_and_one_that_is_given():
    variable = contextvars.ContextVar("variable", default=0)

    async def add():
        variable.set(variable.get() + 1)
        return variable.get()

    def program(aio):
        given = contextvars.Context()
        with aio.Runner() as runner:
            answers = [runner.run(add()), runner.run(add(), context=given), runner.run(add())]
            answers += [runner.run(add(), context=None), given[variable], variable.get()]
        return answers

    both(program)


@BOTH
def test_it_can_be_derived_from_and_what_is_overridden_is_called(aio):
    seen = []

    class Runner(aio.Runner):
        def _lazy_init(self):
            seen.append("init")
            super()._lazy_init()

        def close(self):
            seen.append("close")
            super().close()

        def _on_sigint(self, signum, frame, main_task):
            seen.append(signum)
            super()._on_sigint(signum, frame, main_task)

    async def main():
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(60)

    with Runner() as runner:
        runner.attribute = 1
        assert runner.run(coroutine()) == 1
        with pytest.raises(KeyboardInterrupt) as caught:
            runner.run(main())
    assert isinstance(caught.value.__context__, asyncio.CancelledError)
    assert seen == ["init", "init", "init", signal.SIGINT, "close"]


class OwnState(enum.Enum):
    INITIALIZED = "initialized"
    CLOSED = "closed"


@BOTH
def test_a_derived_runner_may_make_and_close_the_loop_itself(aio):
    class Own(aio.Runner):
        def _lazy_init(self):
            if self._state is OwnState.INITIALIZED:
                return
            self._loop = self._loop_factory()
            self._context = contextvars.copy_context()
            self._state = OwnState.INITIALIZED

        def close(self):
            if self._state is OwnState.INITIALIZED:
                self._loop.close()
                self._loop = None
                self._state = OwnState.CLOSED

    with Own(loop_factory=velodrome.new_event_loop) as runner:
        loop = runner.get_loop()
        assert runner.run(coroutine()) == 1
        assert runner.run(coroutine(2)) == 2
        assert runner.get_loop() is loop
    assert loop.is_closed()
    assert runner._state is OwnState.CLOSED


@BOTH
def test_what_a_runner_keeps_can_be_set_to_what_it_was(aio):
    runner = aio.Runner(loop_factory=velodrome.new_event_loop)
    names = ["_state", "_debug", "_loop_factory", "_loop", "_context", "_interrupt_count", "_set_event_loop"]
    for _ in range(2):
        for name in names:
            before = getattr(runner, name)
            setattr(runner, name, before)
            assert getattr(runner, name) is before
        assert runner.run(coroutine()) == 1
    runner.close()


def test_ctrl_c_and_a_cancellation_of_its_own():
    """Whoever cancels the task as well decides what comes out."""

    def program(aio):
        async def main(cancels, uncancels):
            signal.raise_signal(signal.SIGINT)
            task = asyncio.current_task()
            for _ in range(cancels):
                task.cancel("mine")
            try:
                await asyncio.sleep(60)
            finally:
                for _ in range(uncancels):
                    task.uncancel()

        answers = []
        for cancels, uncancels in ((0, 0), (1, 0), (1, 1), (0, 1)):
            with aio.Runner() as runner:
                answers.append((outcome(runner.run, main(cancels, uncancels))[0], runner._interrupt_count))
            answers.append(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
        return answers

    both(program)


def test_ctrl_c_that_is_swallowed():
    def program(aio):
        async def main():
            signal.raise_signal(signal.SIGINT)
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                return "swallowed"

        return outcome(aio.run, main())

    assert both(program) == ("returned", "swallowed")


def test_a_handler_that_the_program_sets_meanwhile_stays():
    def program(aio):
        async def main():
            signal.signal(signal.SIGINT, handler)

        def handler(signum, frame):
            pass

        try:
            aio.run(main())
            return signal.getsignal(signal.SIGINT) is handler
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    assert both(program) is True


def test_where_signals_cannot_be_handled(monkeypatch):
    def refuse(*_):
        raise ValueError("signal only works in main thread of the main interpreter")

    monkeypatch.setattr(signal, "signal", refuse)
    assert both(lambda aio: aio.run(coroutine(3))) == 3


def test_in_another_thread_signals_are_left_alone(monkeypatch):
    monkeypatch.setattr(signal, "signal", None)
    answers = []
    for aio in (asyncio, velodrome):
        thread = threading.Thread(target=lambda aio=aio: answers.append(aio.run(coroutine(4))))
        thread.start()
        thread.join()
    assert answers == [4, 4]


@BOTH
def test_a_runner_in_a_cycle_dies(aio):
    runner = aio.Runner(loop_factory=asyncio.SelectorEventLoop)
    runner.run(coroutine())
    runner.close()
    runner.itself = runner
    reference = weakref.ref(runner)
    del runner
    gc.collect()
    assert reference() is None


def test_in_asyncios_place_it_asks_the_policy_and_sets_the_current_loop(run_python):
    program = """
import asyncio, warnings
import velodrome
warnings.simplefilter("ignore")
velodrome.install()
assert asyncio.Runner is velodrome.Runner and asyncio.run is velodrome.run

class Policy(asyncio.DefaultEventLoopPolicy):
    def new_event_loop(self):
        print("asked")
        return super().new_event_loop()

    def set_event_loop(self, loop):
        print(type(loop).__name__)
        super().set_event_loop(loop)

async def main():
    try:
        asyncio.run(None)
    except RuntimeError as error:
        print(error)

asyncio.set_event_loop_policy(Policy())
asyncio.run(main())
with asyncio.Runner(loop_factory=velodrome.new_event_loop) as runner:
    runner.run(main())
"""
    refused = "asyncio.run() cannot be called from a running event loop"
    assert run_python(program).stdout.splitlines() == ["asked", "Loop", refused, "NoneType", refused]


def test_a_runner_runs_several_in_one_context(runner_class):
    variable = contextvars.ContextVar("variable", default=0)

    async def add():
        variable.set(variable.get() + 1)
        return variable.get()

    with runner_class() as runner:
        loop = runner.get_loop()
        assert [runner.run(add()), runner.run(add())] == [1, 2]
        context = contextvars.copy_context()
        assert runner.run(add(), context=context) == 1
        assert context[variable] == 1
        assert runner.get_loop() is loop
    assert variable.get() == 0
    assert loop.is_closed()


def test_a_closed_runner_is_refused(runner_class):
    runner = runner_class()
    assert runner.run(nothing()) == "nothing"
    runner.close()
    runner.close()
    for use in runner.get_loop, runner.__enter__:
        with pytest.raises(RuntimeError, match="Runner is closed"):
            use()


def test_a_runner_that_was_never_used_makes_no_loop(runner_class):
    runner = runner_class()
    runner.close()
    with pytest.raises(ValueError):
        with runner_class():
            raise ValueError


def test_a_runner_cancels_what_is_left(runner_class):
    said = []

    async def left():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            said.append("cancelled")
            raise

    async def generate():
        try:
            yield
        finally:
            said.append("generator closed")

    async def main():
        asyncio.create_task(left())
        generator = generate()
        await anext(generator)
        said.append(await asyncio.get_running_loop().run_in_executor(None, str, "executor"))
        kept.append(generator)

    kept = []
    with runner_class() as runner:
        runner.run(main())
        assert said == ["executor"]
    assert said == ["executor", "cancelled", "generator closed"]


def test_a_runner_turns_ctrl_c_into_a_cancellation(runner_class):
    said = []

    async def main():
        asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            said.append("cancelled")
            raise

    before = signal.getsignal(signal.SIGINT)
    with runner_class() as runner:
        with pytest.raises(KeyboardInterrupt):
            runner.run(main())
        assert said == ["cancelled"]
        assert signal.getsignal(signal.SIGINT) is before
        assert runner.run(nothing()) == "nothing"


def test_a_second_ctrl_c_is_immediate(runner_class):
    async def main():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("still here")

    with runner_class() as runner, pytest.raises(KeyboardInterrupt):
        runner.run(main())


def test_a_programs_own_handler_of_ctrl_c_stays(runner_class):
    said = []

    async def main():
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(0)
        return "went on"

    before = signal.signal(signal.SIGINT, lambda *_: said.append("own"))
    try:
        with runner_class() as runner:
            assert runner.run(main()) == "went on"
    finally:
        signal.signal(signal.SIGINT, before)
    assert said == ["own"]


def test_a_runner_refuses_to_run_within_itself(runner_class):
    async def main(runner):
        coroutine = nothing()
        with contextlib.closing(coroutine):
            with pytest.raises(RuntimeError, match="cannot be called from a running event loop"):
                runner.run(coroutine)

    with runner_class() as runner:
        runner.run(main(runner))


def test_velodromes_runner_makes_velodromes_loop():
    with velodrome.Runner() as runner:
        assert type(runner.get_loop()) is velodrome.Loop


def test_asyncios_runner_takes_velodromes_loop():
    with asyncio.Runner(loop_factory=velodrome.new_event_loop) as runner:
        assert type(runner.get_loop()) is velodrome.Loop
        assert runner.run(nothing()) == "nothing"
    with asyncio.Runner(loop_factory=velodrome.Loop) as runner:
        assert runner.run(nothing()) == "nothing"
