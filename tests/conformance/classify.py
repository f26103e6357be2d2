#!/usr/bin/env python3
"""Derive white-box candidates from results and from the tests' source.

    classify.py --testdir .../test/test_asyncio --baseline B.json R1.json R2.json ...

Looks at the tests that pass on the stdlib loop and fail on EVERY given loop,
reads their source (decorators, the method, setUp, and helpers of the same
class that it calls), and sorts them by what makes them white-box.  Prints
JSON in the form of whitebox.json on stdout, and on stderr the tests that fail
everywhere without such a trace in their source: those are to be read by hand,
and count as real failures until then.
"""

import argparse
import ast
import json
import os
import re
import sys

RULES = [
    (
        "module-mock",
        "puts a mock in the place of a name inside asyncio's own modules, which only the stdlib loop reads",
        r"patch\(\s*['\"]asyncio\.(?:base_events|selector_events|unix_events|base_subprocess|"
        r"sslproto|events|proactor_events)[\w.]*['\"]|@patch_socket|"
        r"patch\.object\(\s*(?:asyncio\.)?(?:unix_events|base_events|selector_events|selectors)"
        r"[^)]*\)|patch\(['\"]os\.waitpid['\"]|patch\.object\(os, ['\"]waitpid['\"]|"
        r"patch\(['\"](?:warnings|socket|select|time)\.[\w.]+['\"]",
    ),
    (
        "loop-private",
        "reads, calls or replaces private members of BaseEventLoop",
        r"(?:self\.)?\b(?:loop|_loop)\._(?!running)\w+",
    ),
    (
        "loop-method-mock",
        "replaces public methods of the loop instance by mocks and expects "
        "the loop to call itself through them",
        r"self\.loop\.\w+ = \S.*|patch\.object\(self\.loop, ['\"]\w+['\"]",
    ),
    (
        "private-object",
        "reads private members of transports, servers or processes",
        r"\b(?:transport|tr|srv|server|proc|proto\.transport|writer|stdin|f)\._\w+",
    ),
    (
        "accelerator-swap",
        "swaps asyncio's C accelerators for the pure-Python ones under the running loop",
        r"events\.(?:_set_running_loop|_get_running_loop|get_event_loop) = |"
        r"tasks\.(?:Task|current_task) = |_py_current_task",
    ),
    (
        "mock-argument",
        "hands a mock to the loop where a socket, file or process belongs",
        r"mock\.Mock\(|mock_nonblocking_socket|MagicMock\(",
    ),
]


class Source:
    """Source text of test methods, by class, bases within the file included."""

    def __init__(self, path):
        with open(path) as f:
            self.text = f.read()
        self.lines = self.text.splitlines()
        self.classes = {}
        for node in ast.walk(ast.parse(self.text)):
            if isinstance(node, ast.ClassDef):
                self.classes[node.name] = node

    def segment(self, node):
        first = min([node.lineno] + [d.lineno for d in node.decorator_list])
        return "\n".join(self.lines[first - 1 : node.end_lineno])

    def method(self, cls, name):
        node = self.classes.get(cls)
        if node is None:
            return None
        for item in node.body:
            if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef)) and item.name == name:
                return item
        for base in node.bases:
            base = (
                base.id
                if isinstance(base, ast.Name)
                else base.attr
                if isinstance(base, ast.Attribute)
                else ""
            )
            found = self.method(base, name)
            if found is not None:
                return found
        return None

    def all_of(self, cls, name):
        """Text of a method and of what it calls on self, and of setUp."""
        todo, seen, out = [name, "setUp"], set(), []
        while todo:
            n = todo.pop(0)
            if n in seen:
                continue
            seen.add(n)
            node = self.method(cls, n)
            if node is None:
                continue
            text = self.segment(node)
            out.append(text)
            todo += re.findall(r"self\.(\w+)\(", text)
        return "\n".join(out)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--testdir", required=True)
    p.add_argument("--baseline", required=True)
    p.add_argument("--only", help="regex on test ids")
    p.add_argument("results", nargs="+")
    args = p.parse_args()
    with open(args.baseline) as f:
        base = json.load(f)["tests"]
    others = []
    for path in args.results:
        with open(path) as f:
            others.append(json.load(f)["tests"])
    sources, found, unexplained = {}, [], []
    bad = ("fail", "error", "hang", "crash")
    for tid, b in base.items():
        if b["status"] != "pass" or not b.get("loops"):
            continue
        if args.only and not re.search(args.only, tid):
            continue
        if not all(o.get(tid, {}).get("status") in bad for o in others):
            continue
        mod, cls, name = tid.rsplit(".", 2)
        short = mod.split(".")[-1]
        if short not in sources:
            path = os.path.join(args.testdir, short + ".py")
            sources[short] = Source(path) if os.path.exists(path) else None
        src = sources[short]
        text = src.all_of(cls, name) if src else ""
        node = src.method(cls, name) if src else None
        for kind, reason, pattern in RULES:
            m = re.search(
                pattern, src.segment(node) if node is not None and kind == "mock-argument" else text
            )
            if m:
                found.append(
                    {
                        "match": "^" + re.escape(tid).replace(r"\_", "_") + "$",
                        "kind": kind,
                        "reason": reason,
                        "trace": m.group(0).strip()[:80],
                    }
                )
                break
        else:
            unexplained.append(tid)
    json.dump({"tests": found}, sys.stdout, indent=1)
    print()
    print(f"{len(found)} with white-box traces, {len(unexplained)} without:", file=sys.stderr)
    for tid in unexplained:
        print("  " + tid, file=sys.stderr)


if __name__ == "__main__":
    main()
