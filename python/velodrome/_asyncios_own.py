"""asyncio's own functions, made anew: the same code, in which a name or super() means something of ours.

Tracers and tests wrap asyncio's functions. What is made anew is what is behind that, since whoever calls ours
does not call asyncio's. What somebody has put in a function's place without a trace is used as it is.
"""

from inspect import unwrap
from types import CellType, FunctionType, ModuleType


def with_names(
    function: FunctionType, module: ModuleType, names: dict[str, object], doc: str | None = None
) -> FunctionType:
    """Return a function of this module of asyncio's, with other globals."""
    original = unwrap(function)
    if getattr(original, "__globals__", None) is not vars(module):
        return function
    ours = FunctionType(original.__code__, names, original.__name__, original.__defaults__)
    ours.__kwdefaults__ = original.__kwdefaults__
    ours.__doc__ = doc or original.__doc__
    ours.__module__ = original.__module__
    ours.__qualname__ = original.__qualname__
    return ours


def with_super(function: FunctionType, module: ModuleType, owner: type) -> FunctionType:
    """Return a method of this module of asyncio's, whose super() means what `owner` derives from.

    Tools know asyncio's code by its file and its names. BlockBuster lets it look at the path of a Unix socket
    and remove it while a loop runs, and nobody else.
    """
    original = unwrap(function)
    if getattr(original, "__globals__", None) is not vars(module):
        return function
    cells = tuple(CellType(owner) for _ in original.__code__.co_freevars)
    return FunctionType(original.__code__, original.__globals__, closure=cells)
