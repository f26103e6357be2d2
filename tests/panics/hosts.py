"""Uses of the table by which Rust futures call a loop."""

import asyncio
import ctypes
import gc
import os

from . import arm
from .uses import another_loop, use


class TwoWords(ctypes.Structure):
    """A timer, or a registration, in the table for Rust futures."""

    _fields_ = [("first", ctypes.c_uint64), ("second", ctypes.c_uint64)]


WORD = ctypes.c_void_p
CALL = ctypes.CFUNCTYPE(None, WORD)


class Host(ctypes.Structure):
    """The table for Rust futures."""

    _fields_ = [
        ("version", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("context", WORD),
        ("retain", ctypes.CFUNCTYPE(None, WORD)),
        ("release", ctypes.CFUNCTYPE(None, WORD)),
        ("schedule", ctypes.CFUNCTYPE(ctypes.c_bool, WORD, CALL, WORD)),
        ("timer_set", ctypes.CFUNCTYPE(TwoWords, WORD, ctypes.c_uint64, CALL, WORD)),
        ("timer_cancel", ctypes.CFUNCTYPE(ctypes.c_bool, WORD, TwoWords)),
        (
            "descriptor_add",
            ctypes.CFUNCTYPE(
                ctypes.c_int, WORD, ctypes.c_int, ctypes.c_uint32, CALL, WORD, ctypes.POINTER(TwoWords)
            ),
        ),
        ("descriptor_remove", ctypes.CFUNCTYPE(ctypes.c_bool, WORD, TwoWords)),
        ("now", ctypes.CFUNCTYPE(ctypes.c_uint64, WORD)),
        ("turn", ctypes.CFUNCTYPE(ctypes.c_uint64, WORD)),
        ("at_close", ctypes.CFUNCTYPE(None, WORD, CALL, WORD)),
    ]


CALLED = []
NOTE = CALL(CALLED.append)


def host_of(loop):
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = WORD, [ctypes.py_object, ctypes.c_char_p]
    return Host.from_address(pointer(loop.__velodrome_host__, b"velodrome.Host"))


@use
async def rust_futures(loop):
    host = host_of(loop)
    context = host.context
    armed = arm(None)
    arm(armed)
    host.retain(context)
    left = arm(None)
    arm(left)
    if left == armed:  # a share that was not taken cannot be given back
        host.release(context)
    host.schedule(context, NOTE, 1)
    await asyncio.to_thread(host.schedule, context, NOTE, 2)
    timer = host.timer_set(context, host.now(context) + 10**12, NOTE, 3)
    host.timer_cancel(context, timer)
    reader, writer = os.pipe()
    watch = TwoWords()
    if host.descriptor_add(context, reader, 1, NOTE, 4, watch) == 0:
        # Twice: a panic has it do nothing, and the number of the descriptor will be another's.
        host.descriptor_remove(context, watch)
        host.descriptor_remove(context, watch)
    host.turn(context)
    os.close(reader)
    os.close(writer)
    with another_loop() as closed:
        host = host_of(closed)
        host.at_close(host.context, NOTE, 5)
    del closed, host
    gc.collect()
