"""Result files, and what they say: which tests a package is judged on, and how it did.

A result file (`conform.py run`) holds everything: {"meta", "modules", "tests": {id: {...}}}.
A baseline (`conform.py trim`) holds what judging needs of a run on the stdlib loop, and is committed:
{"meta", "baseline": {module: {class: {test: [status, loops, seconds]}}}}.
"""

import json
import os
import re
import sys
from dataclasses import dataclass, field

HERE = os.path.dirname(os.path.abspath(__file__))

# group -> modules.  Modules about code that never meets a loop of the package's (test_selector_events,
# test_proactor_events, test_protocols, test_transports, test_tools, test_windows_*) are left out.
GROUPS = {
    "events": ["test_events"],
    "sockets": ["test_sock_lowlevel", "test_sendfile", "test_server", "test_buffered_proto"],
    "tls": ["test_ssl", "test_sslproto"],
    "streams": ["test_streams"],
    "subprocess": ["test_subprocess"],
    "unix": ["test_unix_events"],
    "base_events": ["test_base_events"],
    "tasks": [
        "test_tasks",
        "test_eager_task_factory",
        "test_futures",
        "test_futures2",
        "test_taskgroups",
        "test_timeouts",
        "test_waitfor",
        "test_staggered",
        "test_context",
        "test_pep492",
        "test_graph",
        "test_free_threading",
    ],
    "sync": ["test_locks", "test_queues", "test_threads", "test_runners"],
    "outside": [
        "test.test_asyncgen",
        "test.test_contextlib_async",
        "test.test_unittest.test_async_case",
        "unittest.test.test_async_case",  # its name in 3.11
        "test.test_coroutines",
    ],
}

BAD = ("fail", "error", "hang", "crash")


def module_name(short):
    return short if short.startswith(("test.", "unittest.")) else "test.test_asyncio." + short


def group_of(short):
    for group, modules in GROUPS.items():
        if short in modules:
            return group
    return "other"


def short_id(tid):
    return tid.removeprefix("test.test_asyncio.")


# --------------------------------------------------------------------------
# files


def load(path):
    """A result file, or a baseline brought into the same form."""
    with open(path) as f:
        data = json.load(f)
    data["path"] = path
    if "baseline" in data:
        data["tests"] = {
            f"{module_name(module)}.{cls}.{name}": {
                "status": status,
                "loops": loops,
                "dur": seconds,
                "module": module,
            }
            for module, classes in data.pop("baseline").items()
            for cls, names in classes.items()
            for name, (status, loops, seconds) in names.items()
        }
        data["modules"] = dict.fromkeys(r["module"] for r in data["tests"].values())
    return data


def trim(data):
    """The baseline in a run on the stdlib loop."""
    modules = {}
    for tid, r in data["tests"].items():
        rest = tid.removeprefix(module_name(r["module"]) + ".")
        cls, name = rest.rsplit(".", 1)
        entry = [r["status"], r["loops"] or 0, round(r["dur"], 1)]
        modules.setdefault(r["module"], {}).setdefault(cls, {})[name] = entry
    return {"meta": {"python": data["meta"]["python"].split()[0], "loop": "stdlib"}, "baseline": modules}


def dump_baseline(baseline, path):
    """One line for each test, so that a change of baseline reads well as a diff."""
    text = json.dumps(baseline, indent=0, sort_keys=True)
    text = re.sub(r"\[\n([^\]\[]*)\n\]", lambda m: "[" + m.group(1).replace(",\n", ", ") + "]", text)
    with open(path, "w") as f:
        f.write(text + "\n")


def baseline_path(version_info=sys.version_info):
    """Where the committed baseline of an interpreter is."""
    return os.path.join(HERE, "baselines", f"{version_info[0]}.{version_info[1]}.json")


# --------------------------------------------------------------------------
# what counts


def load_whitebox():
    """whitebox.json: [{"match": regex on the test id, "reason": text}, ...]."""
    with open(os.path.join(HERE, "whitebox.json")) as f:
        return [(re.compile(e["match"]), e) for e in json.load(f)["tests"]]


def whitebox_entry(tid, table):
    for pattern, entry in table:
        if pattern.search(tid):
            return entry
    return None


def touched(tid, base, result, data):
    """Does the test exercise what the package provides?"""
    if base.get("loops") or (result or {}).get("loops"):
        return True
    if data["meta"].get("install"):
        cls = tid.rsplit(".", 2)[-2]
        if "CTask" in cls or "CFuture" in cls:
            return True
        if re.search(r"Py([A-Z]|$)", cls):
            return False  # tests pure-Python Task and Future only
        return base.get("module") in GROUPS["tasks"] + GROUPS["sync"]
    return False


def applicable(data, baseline, whitebox):
    """Ids on which the package is judged, of the tests that ran."""
    return [
        tid
        for tid, base in baseline["tests"].items()
        if base["status"] == "pass"
        and tid in data["tests"]
        and touched(tid, base, data["tests"][tid], data)
        and not whitebox_entry(tid, whitebox)
    ]


@dataclass
class Verdict:
    passed: list = field(default_factory=list)
    failed: list = field(default_factory=list)  # (what, status, detail)
    only_alone: list = field(default_factory=list)  # failed among others, passed alone
    unknown: list = field(default_factory=list)  # ran, but the baseline does not have them


def judge(data, baseline, whitebox, pattern=None):
    """Did every applicable test of the modules that ran pass?

    A test which the baseline has and the run has not counts as failed, so that a worker that dies
    early fails: unless the two are of different patch releases, where tests come and go.
    """
    verdict = Verdict()
    python = data["meta"].get("python", "").split()
    same_release = not python or python[0] == baseline["meta"]["python"].split()[0]
    ran = {r["module"] for r in data["tests"].values()}
    for tid, base in baseline["tests"].items():
        if base["status"] != "pass" or base["module"] not in data["modules"]:
            continue
        if pattern and not re.search(pattern, tid):
            continue
        result = data["tests"].get(tid)
        if not touched(tid, base, result, data) or whitebox_entry(tid, whitebox):
            continue
        if result is None:
            if same_release or base["module"] not in ran:
                verdict.failed.append((short_id(tid), "missing", "did not run"))
        elif result["status"] == "pass":
            verdict.passed.append(tid)
            if "in_module" in result:
                verdict.only_alone.append(tid)
        else:
            verdict.failed.append((short_id(tid), result["status"], last_line(result)))
    verdict.unknown = [t for t, r in data["tests"].items() if t not in baseline["tests"] and r["loops"]]
    for module, info in data["modules"].items():
        for note in info["notes"]:
            verdict.failed.append((module, "worker", " | ".join(note.strip().splitlines()[-3:])))
    return verdict


def last_line(result):
    """The line that says most about a failure."""
    lines = [line.strip() for line in result.get("detail", "").splitlines() if line.strip()]
    if result["status"] == "hang":
        lines = [line for line in lines if "test_" in line][-1:] or lines[:1]
    return lines[-1][:200] if lines else ""
