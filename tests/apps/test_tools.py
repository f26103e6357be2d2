"""Tools that reach into asyncio: what they do on velodrome, and with all of asyncio replaced.

docs/tools.md says the same in words.
"""

import sys

import pytest

from apps.running import need

WAYS = ["velodrome.run", "install", "-m velodrome", "-m velodrome --loop-only"]

#: Uses what tools wrap, and says on whose loop.
PROGRAM = """
import asyncio

async def work(n):
    await asyncio.sleep(0.001)
    return n

async def main():
    async with asyncio.TaskGroup() as group:
        first = group.create_task(work(1))
    results = [first.result(), *await asyncio.gather(work(2), work(3)), await asyncio.shield(work(4))]
    for each in asyncio.as_completed([work(5)]):
        results.append(await each)
    results += [task.result() for task in (await asyncio.wait([asyncio.create_task(work(6))]))[0]]
    results.append(await asyncio.wait_for(work(7), 10))
    return results, type(asyncio.get_running_loop()).__module__.partition(".")[0]
"""
EXPECTED = "([1, 2, 3, 4, 5, 6, 7], 'velodrome')\n"


@pytest.fixture
def run(run_python, tmp_path):
    """A function that runs `before`, the program, and `after` in one of the ways; gives all that it wrote."""

    def run(way, before="", after="print({run}(main()))", *, launcher=(), **environment):
        prologue = "import asyncio\n"
        if way in ("velodrome.run", "install"):
            prologue += "import velodrome\n"
        if way == "install":
            prologue += "velodrome.install()\n"
        run = "velodrome.run" if way == "velodrome.run" else "asyncio.run"
        path = tmp_path / "program.py"
        path.write_text(prologue + before + PROGRAM + after.format(run=run))
        command = [*launcher, *(way.split() if way.startswith("-m") else ()), str(path)]
        code = "import runpy, subprocess, sys; sys.exit(subprocess.call([sys.executable, *sys.argv[1:]]))"
        done = run_python(code, *command, env=environment, timeout=60)
        return done.stdout + done.stderr

    return run


@pytest.mark.parametrize("way", WAYS)
def test_sentry_reports_what_a_task_raises(run, way):
    need("sentry_sdk")
    before = """
import sentry_sdk
from sentry_sdk.integrations.asyncio import AsyncioIntegration

class Transport(sentry_sdk.transport.Transport):
    def capture_envelope(self, envelope):
        event = envelope.get_event()
        if event:
            print(event["exception"]["values"][-1]["type"])
"""
    after = """
async def fail():
    raise ZeroDivisionError

async def monitored():
    sentry_sdk.init(
        dsn="http://key@127.0.0.1:1/1", transport=Transport, integrations=[AsyncioIntegration()],
        auto_enabling_integrations=False,
    )
    try:
        await asyncio.create_task(fail())
    except ZeroDivisionError:
        pass
    return await main()

print({run}(monitored()))
"""
    assert run(way, before, after) == "ZeroDivisionError\n" + EXPECTED


@pytest.mark.parametrize("way", WAYS)
def test_opentelemetry_traces_the_coroutines_that_it_is_told_to(run, way):
    need("opentelemetry.instrumentation.asyncio", "opentelemetry.sdk.trace")
    before = """
from opentelemetry import trace
from opentelemetry.instrumentation.asyncio import AsyncioInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

spans = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(provider)
AsyncioInstrumentor().instrument()
"""
    after = "print({run}(main())); print([span.name for span in spans.get_finished_spans()])"
    written = run(way, before, after, OTEL_PYTHON_ASYNCIO_COROUTINE_NAMES_TO_TRACE="work")
    # gather, wait_for, as_completed and the group: it does not look into wait and shield.
    assert written.startswith(EXPECTED)
    assert written.count("asyncio coro-work") >= 5


@pytest.mark.parametrize("way", WAYS)
def test_freezegun_freezes_dates_and_leaves_the_loop_its_clock(run, way):
    need("freezegun")
    before = "import datetime\nfrom freezegun import freeze_time\n"
    after = """
with freeze_time("2012-01-14", real_asyncio=True):
    print(datetime.date.today(), {run}(main()))
"""
    assert run(way, before, after) == "2012-01-14 " + EXPECTED


@pytest.mark.parametrize("way", WAYS)
def test_ddtrace_starts_its_profiler_before_everything_else(run, way):
    need("ddtrace")
    written = run(
        way,
        after="import sys\nprint({run}(main()), 'ddtrace.profiling' in sys.modules)",
        launcher=["-m", "ddtrace.commands.ddtrace_run", sys.executable],
        DD_PROFILING_ENABLED="true",
        DD_TRACE_AGENT_URL="http://127.0.0.1:1",
        DD_INSTRUMENTATION_TELEMETRY_ENABLED="false",
        DD_REMOTE_CONFIGURATION_ENABLED="false",
    )
    assert EXPECTED.strip() + " True\n" in written
    assert "could not be started" not in written


def test_nest_asyncio_refuses_loops_of_others(run):
    need("nest_asyncio")
    after = """
import nest_asyncio
loop = velodrome.new_event_loop()
try:
    nest_asyncio.apply(loop)
except ValueError as error:
    print(error)
loop.close()
"""
    assert run("velodrome.run", "", after).startswith("Can't patch loop of type")


@pytest.mark.parametrize("way", WAYS)
def test_aiodebug_tells_of_slow_callbacks_and_steps(run, way):
    need("aiodebug")
    before = """
import time
import aiodebug.log_slow_callbacks
aiodebug.log_slow_callbacks.enable(0.05, lambda name, duration: print("slow:", name.partition(" at ")[0]))
"""
    after = """
async def slow():
    asyncio.get_running_loop().call_soon(time.sleep, 0.06)
    await asyncio.sleep(0)
    time.sleep(0.06)
    return await main()

print({run}(slow()))
"""
    first, second, *rest = run(way, before, after).splitlines(keepends=True)
    assert first.startswith("slow: <Handle sleep(")
    assert second.startswith("slow: <Task ")
    assert "".join(rest) == EXPECTED


@pytest.mark.parametrize("way", WAYS)
def test_aioconsole_reads_and_writes(run, way):
    """Its one protocol for both pipes puts back what it knew after the end of one of them."""
    need("aioconsole")
    before = """
import os, sys
import aioconsole
reader, writer = os.pipe()
os.write(writer, b"first\\nsecond\\n")
os.close(writer)
sys.stdin = open(reader)
"""
    after = """
async def talk():
    try:
        while True:
            await aioconsole.aprint("read", await aioconsole.ainput())
    except EOFError:
        await aioconsole.aprint("end")
    return await main()

print({run}(talk()))
"""
    assert run(way, before, after) == "read first\nread second\nend\n" + EXPECTED
