"""Task groups that programs derive: what they override, read and set counts as with asyncio's."""

import asyncio

import pytest
import velodrome
from differential.compare import outcome


async def ended(events, number, turns):
    for _ in range(turns):
        await asyncio.sleep(0)
    events.append(number)
    return number


async def failed(error):
    raise error


def same(program):
    """Check that program(module) does the same with asyncio's group and with ours; return what it does."""
    expected, found = (outcome(lambda: velodrome.run(program(module))) for module in (asyncio, velodrome))
    assert found == expected
    return expected


def spare_the_others(base):
    class Forgiving(base):
        def _abort(self):
            return None

    return Forgiving()


def spare_all(base):
    class Forgiving(base):
        def __init__(self):
            super().__init__()
            self._parent_cancel_requested = True

        def _abort(self):
            return None

    return Forgiving()


def collect(base):
    class Collecting(base):
        def _on_task_done(self, task):
            if task.cancelled() or task.exception() is None:
                return super()._on_task_done(task)
            self._tasks.discard(task)
            future = self._on_completed_fut
            if future is not None and not self._tasks and not future.done():
                future.set_result(True)

    return Collecting()


def tell_its_own_errors(base):
    class Telling(base):
        def _on_task_done(self, task):
            super()._on_task_done(task)
            if self._errors:
                self._errors.append(KeyError("noted"))

    return Telling()


def take_any_error_for_fatal(base):
    class Fatal(base):
        def _is_base_error(self, error):
            return isinstance(error, ValueError)

    return Fatal()


def replaced_on_the_instance(base):
    group = base()
    group._abort = lambda: None
    return group


@pytest.mark.parametrize(
    "make",
    [
        spare_the_others,
        spare_all,
        collect,
        tell_its_own_errors,
        take_any_error_for_fatal,
        replaced_on_the_instance,
    ],
)
@pytest.mark.parametrize("raised", [False, True], ids=["body-returns", "body-raises"])
def test_a_derived_group_decides_what_a_failure_does(make, raised):
    async def program(module):
        events = []
        try:
            async with asyncio.timeout(10), make(module.TaskGroup) as group:
                group.create_task(ended(events, 1, 1))
                group.create_task(failed(ValueError("bad")))
                group.create_task(ended(events, 2, 3))
                if raised:
                    raise LookupError
        except* (ValueError, KeyError, LookupError) as error:
            events.append([repr(each) for each in error.exceptions])
        return events, repr(group), asyncio.current_task().cancelling()

    assert same(program)[0] == "returned"


def test_a_derived_group_can_be_cancelled_by_its_own_parts():
    async def program(module):
        class Cancellable(module.TaskGroup):
            def cancel(self):
                self._abort()
                self._parent_cancel_requested = True
                self._parent_task.cancel()

        events = []
        async with Cancellable() as group:
            group.create_task(ended(events, 1, 3))
            assert [task.done() for task in group._tasks] == [False]
            group.cancel()
        events.append((group._aborting, group._parent_cancel_requested))
        return events, len(group._tasks), asyncio.current_task().cancelling()

    assert same(program) == ("returned", ([(True, True)], 0, 0))


def test_a_group_that_somebody_looked_into_goes_on():
    async def program(module):
        events = []
        group = module.TaskGroup()
        tasks = group._tasks
        async with group:
            for number in range(3):
                group.create_task(ended(events, number, number))
            assert group._tasks is tasks
            events.append(len(tasks))
        return events, len(tasks), repr(group)

    assert same(program)[0] == "returned"


@pytest.mark.parametrize(
    "name",
    ["_entered", "_exiting", "_aborting", "_loop", "_parent_task", "_parent_cancel_requested"]
    + ["_tasks", "_errors", "_base_error", "_on_completed_fut"],
)
@pytest.mark.parametrize("module", [asyncio, velodrome])
def test_what_a_group_keeps_can_be_set_to_what_it_was(name, module):
    group = module.TaskGroup()
    before = getattr(group, name)
    setattr(group, name, before)
    assert getattr(group, name) is before
