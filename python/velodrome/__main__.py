"""Run an existing asyncio program on velodrome, as plain `python` would run it on asyncio.

    python -m velodrome script.py arguments...
    python -m velodrome -m package.module arguments...
    python -m velodrome -c "code" arguments...

The program finds the interpreter as it would without velodrome: sys.argv, sys.path[0], its own module
`__main__`, the exit status, and tracebacks without our frames. Three differences remain. asyncio and
velodrome are imported already. Who looks below the program's first frame (`traceback.print_stack`) sees
ours. And sys.orig_argv is the true command line, so that a program which restarts itself by it restarts on
velodrome.

Processes that multiprocessing starts run on velodrome as their parent does, whether it forks them or starts
them afresh. Those that a program starts by a command line of its own (subprocess) run as that says.
"""

import builtins
import importlib.machinery
import os
import pkgutil
import runpy
import sys
from collections.abc import Callable
from types import ModuleType, TracebackType
from typing import Any, NoReturn

import velodrome
from velodrome._children import start_children_with
from velodrome._choice import choose_velodrome
from velodrome._install import install, swap_loop

# What python itself calls to run a module, a folder or a zip file: its frames are part of their tracebacks.
_run_module_as_main: Any = runpy._run_module_as_main  # type: ignore[attr-defined]

USAGE = """\
usage: python -m velodrome [--loop-only] SCRIPT [ARGUMENT ...]
       python -m velodrome [--loop-only] -m MODULE [ARGUMENT ...]
       python -m velodrome [--loop-only] -c CODE [ARGUMENT ...]
"""

HELP = f"""\
{USAGE}
Run an existing asyncio program on velodrome, as plain python would run it on asyncio.

  SCRIPT       a Python file, or a folder or zip file with a __main__.py in it
  -m MODULE    a module or package, found on sys.path
  -c CODE      a program passed in as a string
  --loop-only  replace asyncio's loop and nothing else of asyncio
  --version    print the versions of velodrome and of Python
  --help       print this

What asyncio calls Task, gather, Lock and so on is then velodrome's, as after velodrome.install(), and
asyncio.run, Runner, new_event_loop, SelectorEventLoop and EventLoop use velodrome's loop. Processes that the
program forks, or starts by multiprocessing, use it, too.
"""


def main(arguments: list[str]) -> None:
    """Read our own options, which end where the program begins, and run the program."""
    replace = install
    while arguments:
        option, *arguments = arguments
        if option in ("-h", "--help"):
            print(HELP, end="")
            return
        if option in ("-V", "--version"):
            python = ".".join(map(str, sys.version_info[:3]))
            print(f"velodrome {velodrome.__version__} ({sys.implementation.name} {python})")
            return
        if option == "--loop-only":
            replace = swap_loop
            continue
        if option.startswith(("-m", "-c")):
            # As with python's own, what belongs to the option may follow at once: -mtimeit.
            option, attached = option[:2], option[2:]
            if attached:
                arguments = [attached, *arguments]
            if not arguments:
                _usage(f"argument expected for the {option} option")
            run = _run_module if option == "-m" else _run_code
            return _run(run, arguments[0], [option, *arguments[1:]], replace)
        if option == "-":
            _usage("a program from standard input is not supported")
        if option.startswith("--"):
            _usage(f"unknown option {option}")
        if option.startswith("-"):
            _usage(f"unknown option {option}; python's own go before -m velodrome")
        return _run(_run_path, option, [option, *arguments], replace)
    _usage("a program is expected")


def _usage(error: str) -> NoReturn:
    """Say what is wrong with the command line, and leave with the status that python has for it."""
    print(f"velodrome: {error}\n{USAGE}", end="", file=sys.stderr)
    sys.exit(2)


def _run(run: Callable[[str], None], program: str, argv: list[str], replace: Callable[[], None]) -> None:
    """Run a program in a fresh `__main__`, and let nobody see that we did.

    An exception that the program does not catch goes on to the interpreter, which alone knows all that must
    follow: which exit status, dying of SIGINT after Ctrl-C, `python -i`. Only what it prints has to change.
    """
    sys.argv = argv
    sys.modules["__main__"] = _fresh_main()
    choose_velodrome()
    start_children_with(*(["--loop-only"] if replace is swap_loop else []))
    replace()
    try:
        run(program)
    except BaseException as error:
        if not isinstance(error, SystemExit) or sys.flags.inspect:
            _hide_our_frames(error)
        raise


def _fresh_main() -> ModuleType:
    """Make the module `__main__` as the interpreter makes it, with the same names in the same order."""
    module = ModuleType("__main__")
    names = vars(module)
    names["__loader__"] = importlib.machinery.BuiltinImporter
    if sys.version_info < (3, 14):
        names["__annotations__"] = {}
    names["__builtins__"] = builtins
    return module


def _hide_our_frames(error: BaseException) -> None:
    """Have the interpreter show an exception's traceback from the program's first frame on.

    The exception passes through our frames on its way out, and each of them adds itself to the traceback.
    So the cut is made as late as possible: in a hook that stands in for sys.excepthook, once.
    """
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_globals is globals():
        traceback = traceback.tb_next
    hook = getattr(sys, "excepthook", None)
    if hook is None:
        return  # the program deleted it; the interpreter says so, and shows the whole traceback

    def show(kind: type[BaseException], value: BaseException, _: TracebackType | None) -> Any:
        sys.excepthook = hook
        sys.last_traceback = value.__traceback__ = traceback
        return hook(kind, value, traceback)

    sys.excepthook = show


def _run_path(path: str) -> None:
    """Run `python PATH`: a Python file, compiled or not, or a folder or zip file that holds a `__main__`."""
    # Absolute, but not tidied up: python leaves `./` and `../` where they are.
    filename = os.getcwd() if path == "." else os.path.join(os.getcwd(), path)
    if pkgutil.get_importer(filename) is not None:
        _set_path0(filename, always=True)
        _run_module_as_main("__main__", False)
        return

    _set_path0(os.path.dirname(os.path.realpath(path)))
    loader: Any
    code: Any
    try:
        if filename.endswith(".pyc"):
            loader = importlib.machinery.SourcelessFileLoader("__main__", filename)
            code = loader.get_code("__main__")
        else:
            # Not get_code(), which would read and write a .pyc file in the script's __pycache__.
            loader = importlib.machinery.SourceFileLoader("__main__", filename)
            code = compile(loader.get_data(filename), filename, "exec", dont_inherit=True)
    except OSError as error:
        reason = f"can't open file {filename!r}: [Errno {error.errno}] {error.strerror}"
        print(f"{sys.orig_argv[0]}: {reason}", file=sys.stderr)
        sys.exit(2)

    names = vars(sys.modules["__main__"])
    names["__loader__"] = loader
    names["__file__"] = filename
    if sys.version_info < (3, 15):
        names["__cached__"] = None
    exec(code, names)


def _run_module(name: str) -> None:
    """Run `python -m NAME`."""
    _run_module_as_main(name)


def _run_code(source: str) -> None:
    """Run `python -c SOURCE`."""
    _set_path0("")
    source += "\n"
    if sys.version_info >= (3, 14):
        import textwrap

        source = textwrap.dedent(source)
    code = compile(source, "<string>", "exec", dont_inherit=True)
    if sys.version_info >= (3, 13):
        # From 3.13 on tracebacks show the lines of such a program.
        import linecache

        register: Any = linecache._register_code  # type: ignore[attr-defined]
        # Patch releases of 3.13 differ: later ones take the code and what is in it, the first ones a name.
        by_code = "co_consts" in register.__code__.co_names
        register(code if by_code else "<string>", source, "<string>")
    exec(code, vars(sys.modules["__main__"]))


def _set_path0(path: str, always: bool = False) -> None:
    """Put the program's folder first on sys.path, in place of the current one that `-m velodrome` put there.

    With -P or PYTHONSAFEPATH there is no such place, and nothing to put there, unless the folder (or zip
    file) is `always` put there, being the program itself.
    """
    if not sys.flags.safe_path:
        sys.path[0] = path
    elif always:
        sys.path.insert(0, path)


if __name__ == "__main__":
    main(sys.argv[1:])
