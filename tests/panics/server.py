"""A process that knows nothing of tests, and forks one for each entry."""

import gc
import json
import os
import select
import signal
import sys
import traceback

from . import strikes


def in_child(function, *arguments, timeout=30):
    """Call a function in a forked process; return what it returned, or how the process ended."""
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(receiver)
            answer = function(*arguments)
            with open(sender, "w") as file:
                json.dump(answer, file)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    os.close(sender)
    with open(receiver) as file:
        ready, _, _ = select.select([file], [], [], timeout)
        if not ready:
            os.kill(child, signal.SIGKILL)
        text = file.read()
    _, status = os.waitpid(child, 0)
    if status == 0:
        return {"answer": json.loads(text)}
    code = os.waitstatus_to_exitcode(status)
    ended = "it did not end" if not ready else signal.Signals(-code).name if code < 0 else f"exit {code}"
    return {"ended": ended}


def serve():
    answers = open(os.dup(1), "w")
    os.dup2(2, 1)  # what is used may print
    gc.freeze()  # children collect often
    # In the background of a shell SIGINT may be ignored, and so not be handled by Python.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(in_child(getattr(strikes, name), *arguments)), file=answers, flush=True)
