#!/usr/bin/env python3
"""Run CPython's own asyncio test suite against another event loop.

    conform.py gate     run the suite on a loop and judge it: what `make conformance` does
    conform.py run      run the suite on one loop, write results as JSON
    conform.py judge    list the applicable tests that did not pass in a result file
    conform.py report   tabulate results of several loops against a baseline
    conform.py diff     list the tests on which two result files differ
    conform.py triage   list the tests that fail on every given loop, with the white-box traces found
                        in their source
    conform.py trim     make a baseline of a run on the stdlib loop
    conform.py list     list the groups and their test modules

The suite is the one installed with the interpreter (test.test_asyncio), as upstream wrote it.  Nothing
in it is edited: worker.py swaps the loop in underneath, by the default policy's factory
(asyncio.new_event_loop, asyncio.run, IsolatedAsyncioTestCase, ...) and by
asyncio.SelectorEventLoop/EventLoop (the create_event_loop() of the mixins).

Loop mode:              --loop uvloop:new_event_loop
Full-replacement mode:  --loop pkg:new_event_loop --install pkg:install
    install() patches asyncio.Task, asyncio.Future, asyncio.Lock, asyncio.gather, ... before the suite is
    imported; the suite's C* classes (CTask_CFuture_Tests, CFutureTests, ...) then test the replacement.
Baseline:               --loop stdlib
"""

import argparse
import collections
import json
import os
import subprocess
import sys

from results import (
    BAD,
    GROUPS,
    applicable,
    baseline_path,
    dump_baseline,
    group_of,
    judge,
    last_line,
    load,
    load_whitebox,
    short_id,
    trim,
    whitebox_entry,
)
from running import run


def chosen_modules(args):
    """What --modules and --groups name, in the order of GROUPS; all without them."""
    if args.modules:
        return args.modules
    unknown = set(args.groups or ()) - set(GROUPS)
    if unknown:
        raise SystemExit(f"no group {' '.join(sorted(unknown))}; there are: {' '.join(GROUPS)}")
    return [m for g in args.groups or GROUPS for m in GROUPS[g]]


def cmd_run(args):
    data = run(args, chosen_modules(args))
    bad = any(r["status"] in BAD for r in data["tests"].values())
    return 1 if bad and args.strict else 0


def cmd_gate(args):
    version = require_suite(args.python)
    args.baseline = args.baseline or baseline_path(version)
    if not os.path.exists(args.baseline):
        raise SystemExit(f"no baseline for CPython {version[0]}.{version[1]}: README.md says how to make one")
    return print_verdict(run(args, chosen_modules(args)), load(args.baseline), args.pattern)


def cmd_judge(args):
    data = load(args.result)
    path = args.baseline or baseline_path(data["meta"]["python"].split()[0].split("."))
    return print_verdict(data, load(path), data["meta"].get("pattern"))


def print_verdict(data, baseline, pattern):
    verdict = judge(data, baseline, load_whitebox(), pattern)
    if verdict.unknown:
        print(
            f"{len(verdict.unknown)} tests are not in the baseline, which is of CPython "
            f"{baseline['meta']['python'].split()[0]}: they are not judged"
        )
    for tid in verdict.only_alone:
        print(f"passed only when run alone: {short_id(tid)}")
    for what, status, detail in verdict.failed:
        print(f"{status:7} {what}: {detail}")
    print(f"{len(verdict.passed)} passed, {len(verdict.failed)} failed")
    return 1 if verdict.failed or not verdict.passed else 0


def require_suite(python):
    """The version of the interpreter under test; stop if it lacks the suite."""
    code = "import sys, json; print(json.dumps(sys.version_info[:3])); import test.test_asyncio"
    if python != sys.executable:
        return sys.version_info  # a command in words of its own; the worker tells
    done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(
            f"{python} comes without CPython's test suite (on Debian: libpythonX.Y-testsuite)\n{done.stderr}"
        )
    return json.loads(done.stdout)


def cmd_trim(args):
    dump_baseline(trim(load(args.result)), args.out)


def cmd_report(args):
    baseline = load(args.baseline)
    table = [] if args.no_whitebox else load_whitebox()
    for path in args.results:
        data = load(path)
        meta = data["meta"]
        rows = {}
        ids = applicable(data, baseline, table)
        for tid in ids:
            r = data["tests"][tid]
            name = r["module"] if args.by_module else group_of(r["module"])
            row = rows.setdefault(name, collections.Counter())
            row["applicable"] += 1
            row[r["status"]] += 1
        total = sum(rows.values(), collections.Counter())
        name = meta.get("package") or meta["loop"]
        mode = " (full replacement)" if meta.get("install") else ""
        print(f"## {name} on {meta['python'].split()[0]}{mode}")
        print("| group | passed | applicable | failed | hung | crashed | skipped |")
        print("|---|--:|--:|--:|--:|--:|--:|")
        for group, row in [*rows.items(), ("TOTAL", total)]:
            print(
                f"| {group} | {row['pass']} | {row['applicable']} | {row['fail'] + row['error']} | "
                f"{row['hang']} | {row['crash']} | {row['skip'] + row['xfail']} |"
            )
        if total["applicable"]:
            alone = sum("in_module" in data["tests"][t] for t in ids)
            score = 100 * total["pass"] / total["applicable"]
            print(f"score {score:.1f}%; passing only when run alone: {alone}")
        if args.failures:
            for tid in ids:
                r = data["tests"][tid]
                if r["status"] in BAD or (r["status"] == "skip" and args.failures > 1):
                    print(f"  {r['status']:5} {short_id(tid)}: {last_line(r)[:150]}")
        print()


def cmd_diff(args):
    a, b = load(args.a), load(args.b)
    for tid in sorted(set(a["tests"]) | set(b["tests"])):
        sa = a["tests"].get(tid, {}).get("status", "-")
        sb = b["tests"].get(tid, {}).get("status", "-")
        if sa != sb:
            print(f"{sa:5} {sb:5} {short_id(tid)}")


def cmd_triage(args):
    baseline = load(args.baseline)
    others = [load(p) for p in args.results]
    table = load_whitebox()
    n = 0
    for tid, base in baseline["tests"].items():
        if base["status"] != "pass":
            continue
        results = [o["tests"].get(tid) for o in others]
        bad = sum(r is not None and r["status"] in BAD for r in results)
        if not bad or bad < (args.at_least or len(others)):
            continue
        known = whitebox_entry(tid, table)
        if known and not args.known:
            continue
        n += 1
        hints = next((r["hints"] for r in results if r and r.get("hints")), [])
        print(short_id(tid) + (f"  [known: {known['reason']}]" if known else ""))
        print(f"    hints: {hints}")
        if args.verbose:
            for o, r in zip(others, results, strict=True):
                if r and r["status"] != "pass":
                    print(f"    {o['meta']['loop'].split(':')[0]:10} {r['status']}: {last_line(r)[:160]}")
    print(f"{n} tests")


def cmd_list(args):
    print("Groups, and their modules:")
    for group, modules in GROUPS.items():
        print(f"  {group}: {' '.join(modules)}")


def add_run_options(p):
    p.add_argument(
        "--python",
        default=sys.executable,
        metavar="CMD",
        help="interpreter under test, as a shell-like command, e.g. 'chroot DIR /venv/bin/python'",
    )
    p.add_argument(
        "--install",
        metavar="MOD:FUNC",
        help="full-replacement mode: called before the suite is imported",
    )
    p.add_argument(
        "--propagate",
        action="store_true",
        help="with --install: also put each replacement wherever a submodule of asyncio still holds the "
        "original",
    )
    p.add_argument(
        "--real-test-loop",
        action="store_true",
        help="also use the loop where the suite uses its virtual-time TestLoop without a script "
        "(new_test_loop())",
    )
    p.add_argument(
        "--path", action="append", default=[], help="prepend to sys.path of the interpreter under test"
    )
    p.add_argument(
        "--strict-fixtures",
        action="store_true",
        help="leave the suite's close_loop() alone: it needs loop._default_executor",
    )
    p.add_argument("--env", action="append", default=[], metavar="K=V")
    p.add_argument("--groups", nargs="+", help="see 'list'; default: all")
    p.add_argument("--modules", nargs="+", help="module names, instead of groups")
    p.add_argument("-k", dest="pattern", help="regex on test ids")
    p.add_argument("--update", action="store_true", help="keep what OUT holds of the modules not run now")
    p.add_argument("--baseline", help="stdlib results: gives tighter time limits (6x the stdlib's time)")
    p.add_argument("--timeout", type=float, default=60.0, help="seconds per test, at most")
    p.add_argument(
        "--min-timeout", type=float, default=10.0, help="seconds per test, at least, with --baseline"
    )
    p.add_argument(
        "--no-retry", dest="retry", action="store_false", help="do not run failing tests again alone"
    )
    p.add_argument(
        "--retry-hangs",
        type=int,
        default=6,
        help="at most so many hung tests of a module are run again",
    )
    p.add_argument("-j", "--jobs", type=int, default=1, help="modules run at the same time")
    p.add_argument("--nice", type=int, default=0)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sub = parser.add_subparsers(dest="cmd", required=True)

    p = sub.add_parser("gate", help="run the suite on a loop and judge it")
    p.add_argument("--loop", default="velodrome:new_event_loop", metavar="MOD:FACTORY")
    p.add_argument("--out", default="target/conformance/gate.json")
    add_run_options(p)
    p.set_defaults(func=cmd_gate)

    p = sub.add_parser("run", help="run a suite on one loop")
    p.add_argument(
        "--loop",
        required=True,
        metavar="MOD:FACTORY",
        help="callable returning a new loop, or 'stdlib'",
    )
    p.add_argument("--out", required=True)
    p.add_argument("--strict", action="store_true", help="exit 1 if anything failed")
    add_run_options(p)
    p.set_defaults(func=cmd_run)

    p = sub.add_parser("judge", help="list the applicable tests that did not pass; exit 1 if any")
    p.add_argument("--baseline", help="default: the committed one of the result's Python version")
    p.add_argument("result")
    p.set_defaults(func=cmd_judge)

    p = sub.add_parser("report", help="tabulate results against a baseline")
    p.add_argument("--baseline", required=True)
    p.add_argument("--by-module", action="store_true")
    p.add_argument(
        "--failures",
        "-f",
        action="count",
        default=0,
        help="list failing tests (-ff: skipped ones too)",
    )
    p.add_argument(
        "--no-whitebox",
        action="store_true",
        help="do not exclude the tests named in whitebox.json",
    )
    p.add_argument("results", nargs="+")
    p.set_defaults(func=cmd_report)

    p = sub.add_parser("diff", help="tests on which two result files differ")
    p.add_argument("a")
    p.add_argument("b")
    p.set_defaults(func=cmd_diff)

    p = sub.add_parser("triage", help="tests failing on all the given loops")
    p.add_argument("--baseline", required=True)
    p.add_argument("--at-least", type=int, help="failing on at least N of them")
    p.add_argument("--known", action="store_true", help="list known white-box ones too")
    p.add_argument("-v", "--verbose", action="store_true")
    p.add_argument("results", nargs="+")
    p.set_defaults(func=cmd_triage)

    p = sub.add_parser("trim", help="make a baseline of a run on the stdlib loop")
    p.add_argument("result")
    p.add_argument("out")
    p.set_defaults(func=cmd_trim)

    p = sub.add_parser("list", help="list groups and modules")
    p.set_defaults(func=cmd_list)

    args = parser.parse_args()
    return args.func(args)


if __name__ == "__main__":
    sys.exit(main())
