"""Runs modules of the suite in worker processes (worker.py) and collects the results.

Each module runs in a worker of its own; each test has a time limit.  A test that hangs or kills its
process is recorded as such, and the rest of the module goes on in a fresh worker.  A test that fails is
run again alone in a fresh process, and its result there is the one that counts.
"""

import collections
import concurrent.futures
import contextlib
import json
import os
import selectors
import shlex
import signal
import subprocess
import tempfile
import threading
import time

from results import BAD, HERE, load, module_name

# Classes that repeat the same mixin on another selector or child watcher, which means nothing to a
# third-party loop: one of each family is kept.
_OTHER_SELECTORS = ["PollEventLoopTests", "SelectEventLoopTests", "KqueueEventLoopTests"]
DROP = {
    "test_events": _OTHER_SELECTORS,
    "test_sock_lowlevel": _OTHER_SELECTORS,
    "test_sendfile": _OTHER_SELECTORS,
    "test_subprocess": [
        "SubprocessSafeWatcherTests",
        "SubprocessFastWatcherTests",
        "SubprocessMultiLoopWatcherTests",
        "SubprocessPidfdWatcherTests",
    ],
}


class Worker:
    """One worker process; yields its events."""

    def __init__(self, args, cfg):
        rfd, wfd = os.pipe()
        # The configuration goes through a file: a list of a thousand tests does not fit an environment.
        with tempfile.TemporaryFile() as config:
            config.write(json.dumps(dict(cfg, fd=wfd)).encode())
            config.seek(0)
            env = dict(os.environ, CONFORM_CFG=str(config.fileno()), PYTHONDONTWRITEBYTECODE="1")
            env.pop("PYTHONASYNCIODEBUG", None)
            env.update(kv.split("=", 1) for kv in args.env)
            # The worker's text goes with it, so that it may run in a chroot which cannot see this folder.
            with open(os.path.join(HERE, "worker.py")) as f:
                source = f.read()
            cmd = shlex.split(args.python)
            if args.nice:
                cmd = ["nice", "-n", str(args.nice), *cmd]
            self.stderr = tempfile.TemporaryFile()
            self.proc = subprocess.Popen(
                [*cmd, "-X", "faulthandler", "-c", source],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=self.stderr,
                stderr=self.stderr,
                pass_fds=[wfd, config.fileno()],
                start_new_session=True,
            )
        os.close(wfd)
        self.rfd = rfd
        self.buf = b""

    def events(self, limit):
        """Events until end of file; stop if none comes in limit() seconds."""
        with selectors.DefaultSelector() as sel:
            sel.register(self.rfd, selectors.EVENT_READ)
            deadline = time.monotonic() + limit()
            while True:
                if not sel.select(max(0.0, deadline - time.monotonic())):
                    yield {"ev": "stuck"}
                    return
                data = os.read(self.rfd, 65536)
                if not data:
                    return
                self.buf += data
                *lines, self.buf = self.buf.split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    kind = event["ev"]
                    yield event
                    if kind in ("done", "worker-error"):
                        return
                deadline = time.monotonic() + limit()

    def finish(self, grace):
        """Reap the process and whatever it left in its session: (exit status or "stuck", its output)."""
        late = False
        try:
            self.proc.wait(grace)
        except subprocess.TimeoutExpired:
            late = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.proc.pid, signal.SIGKILL)
        self.proc.wait()
        os.close(self.rfd)
        self.stderr.seek(0)
        text = self.stderr.read().decode("utf-8", "replace")
        self.stderr.close()
        return ("stuck" if late else self.proc.returncode), text


class Runner:
    """Runs modules and keeps `meta`, `modules` and `results` of the result file."""

    def __init__(self, args):
        self.args = args
        self.results = {}
        self.modules = {}
        self.meta = {}
        self.timeouts = {}
        self._saving = threading.Lock()
        if args.baseline:
            for tid, r in load(args.baseline)["tests"].items():
                self.timeouts[tid] = min(args.timeout, max(args.min_timeout, 6 * r["dur"]))

    def cfg(self, short, only, timeouts):
        a = self.args
        return {
            "loop": a.loop,
            "install": a.install,
            "propagate": a.propagate,
            "real_test_loop": a.real_test_loop,
            "strict_fixtures": a.strict_fixtures,
            "module": module_name(short),
            "drop": DROP.get(short, []),
            "timeout": a.timeout,
            "timeouts": timeouts,
            "path": [os.path.abspath(p) for p in a.path],
            "pattern": a.pattern,
            "only": only,
        }

    def run_batch(self, short, only, store):
        """Run tests (None: all) in one worker; return those not run, or None."""
        prefix = module_name(short) + "."
        chosen = None if only is None else set(only)
        limits = {
            t: v for t, v in self.timeouts.items() if t.startswith(prefix) and (chosen is None or t in chosen)
        }
        w = Worker(self.args, self.cfg(short, only, limits))
        current, ids, seen, fixtures = None, None, set(), []
        first = None
        info = self.modules.setdefault(short, {"notes": []})

        def limit():
            if current is None:
                return 90.0
            return limits.get(current, self.args.timeout) + 8.0

        finished = False
        for e in w.events(limit):
            kind = e.pop("ev")
            if kind == "meta":
                self.meta.update(e)
            elif kind == "ids":
                ids = e["ids"]
                if "modskip" in e:
                    info["skip"] = e["modskip"]
                    finished = True
            elif kind == "start":
                current = e["id"]
                first = first or current
            elif kind == "end":
                tid = e.pop("id")
                store(tid, e)
                seen.add(tid)
                current = None
            elif kind == "fixture":
                fixtures.append(e)
            elif kind == "done":
                finished = True
            elif kind == "worker-error":
                if current is None:
                    info["notes"].append("worker error: " + e["detail"])
                    finished = True
                else:  # raised through unittest by a test
                    detail = "escaped from the test runner\n" + e["detail"]
                    store(current, {"status": "error", "loops": None, "dur": 0, "detail": detail})
                    seen.add(current)
                    current = None
        status, text = w.finish(0.5 if current else 10.0)
        if ids is None:
            if not info["notes"]:
                info["notes"].append(f"worker died on start (exit {status}): {text[-2500:]}")
            return None
        if current is not None:
            where = text.rfind("Timeout (")
            hung = where >= 0 or status == "stuck"
            detail = text[where : where + 2500] if where >= 0 else text[-2500:]
            seconds = limits.get(current, self.args.timeout) if hung else 0
            store(
                current,
                {
                    "status": "hang" if hung else "crash",
                    "detail": f"exit {status}\n{detail}",
                    "loops": None,
                    "dur": seconds,
                    "first": current == first,
                },
            )
            seen.add(current)
        elif finished and status != 0 and ids and "skip" not in info:
            info["notes"].append(f"worker exit: {status}: {text[-600:]}")
        rest = [t for t in ids if t not in seen]
        if finished and rest:  # class or module fixtures failed
            why = "; ".join(f["detail"] for f in fixtures) or "not run"
            skipped = fixtures and all(f["detail"].startswith("skip:") for f in fixtures)
            for t in rest:
                detail = "fixture: " + why[-1500:]
                store(t, {"status": "skip" if skipped else "error", "detail": detail, "loops": 0, "dur": 0})
            rest = []
        return rest or None

    def run_module(self, short):
        t0 = time.monotonic()
        mine = {}
        rest = self.run_batch(short, None, mine.__setitem__)
        while rest:
            rest = self.run_batch(short, rest, mine.__setitem__)
        if self.args.retry:
            self.retry(short, mine)
        for r in mine.values():
            r["module"] = short
        self.results.update(mine)
        counts = collections.Counter(r["status"] for r in mine.values())
        info = self.modules[short]
        info.update(seconds=round(time.monotonic() - t0, 1), counts=counts)
        line = f"{short:32} {info['seconds']:6.1f}s " + " ".join(
            f"{k}={v}" for k, v in sorted(counts.items())
        )
        if "skip" in info:
            line += " " + info["skip"]
        if info["notes"]:
            line += " NOTE: " + info["notes"][0][-200:].replace("\n", " | ")
        print(line, flush=True)

    def retry(self, short, mine):
        """Run what failed again, each test alone."""
        hangs = 0
        for tid, r in list(mine.items()):
            if r["status"] not in BAD:
                continue
            if r["status"] == "hang":
                hangs += 1
                if r.get("first") or hangs > self.args.retry_hangs:
                    continue
            again = {}
            self.run_batch(short, [tid], again.__setitem__)
            new = again.get(tid)
            if new is None:
                continue
            if new["status"] == "pass":
                new["in_module"] = r["status"]
                new["in_module_detail"] = r["detail"][-700:]
            mine[tid] = new

    def data(self):
        a = self.args
        meta = {
            "loop": a.loop,
            "install": a.install,
            "python_cmd": a.python,
            "timeout": a.timeout,
            "real_test_loop": a.real_test_loop,
            "pattern": a.pattern,
        }
        return {"meta": {**self.meta, **meta}, "modules": self.modules, "tests": self.results}

    def save(self):
        out = os.path.abspath(self.args.out)
        with self._saving:
            os.makedirs(os.path.dirname(out), exist_ok=True)
            with open(out + ".tmp", "w") as f:
                json.dump(self.data(), f, indent=1, sort_keys=True)
            os.replace(out + ".tmp", out)


def run(args, modules):
    """Run the modules, `args.jobs` at a time; save the results after each."""
    runner = Runner(args)
    if args.update and os.path.exists(args.out):
        old = load(args.out)
        runner.results = {t: r for t, r in old["tests"].items() if r["module"] not in modules}
        runner.modules = {m: i for m, i in old["modules"].items() if m not in modules}
    t0 = time.monotonic()
    if args.jobs == 1:
        for short in modules:
            runner.run_module(short)
            runner.save()
    else:
        with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
            list(pool.map(runner.run_module, modules))
        runner.save()
    counts = collections.Counter(r["status"] for r in runner.results.values())
    print(f"TOTAL {time.monotonic() - t0:.0f}s {dict(counts)} -> {args.out}")
    replacement = runner.meta.get("replacement")
    if replacement:
        print("replaced:   ", " ".join(replacement["replaced"]) or "nothing")
        print("retargeted: ", " ".join(replacement["retargeted"]) or "nothing")
        print("leaks:      ", " ".join(replacement["leaks"]) or "none")
    return runner.data()
