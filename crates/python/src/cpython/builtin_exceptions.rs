//! The interpreter's own exception classes, by name.

use super::ffi;
use super::object::Obj;

macro_rules! builtin_exceptions {
    ($($(#[$doc:meta])* $name:ident = $symbol:ident;)*) => {$(
        $(#[$doc])*
        pub fn $name() -> &'static Obj {
            // SAFETY: built-in exceptions live as long as the interpreter.
            unsafe { Obj::from_ptr(ffi::$symbol) }
        }
    )*};
}

builtin_exceptions! {
    /// `AssertionError`.
    assertion_error = PyExc_AssertionError;
    /// `AttributeError`.
    attribute_error = PyExc_AttributeError;
    /// `BlockingIOError`.
    blocking_io_error = PyExc_BlockingIOError;
    /// `BrokenPipeError`.
    broken_pipe_error = PyExc_BrokenPipeError;
    /// `ConnectionError`.
    connection_error = PyExc_ConnectionError;
    /// `ConnectionResetError`.
    connection_reset_error = PyExc_ConnectionResetError;
    /// `DeprecationWarning`.
    deprecation_warning = PyExc_DeprecationWarning;
    /// `GeneratorExit`.
    generator_exit = PyExc_GeneratorExit;
    /// `ImportError`.
    import_error = PyExc_ImportError;
    /// `IndexError`.
    index_error = PyExc_IndexError;
    /// `InterruptedError`.
    interrupted_error = PyExc_InterruptedError;
    /// `KeyboardInterrupt`.
    keyboard_interrupt = PyExc_KeyboardInterrupt;
    /// `NotImplementedError`.
    not_implemented_error = PyExc_NotImplementedError;
    /// `OverflowError`.
    overflow_error = PyExc_OverflowError;
    /// `OSError`.
    os_error = PyExc_OSError;
    /// `ResourceWarning`.
    resource_warning = PyExc_ResourceWarning;
    /// `RuntimeError`.
    runtime_error = PyExc_RuntimeError;
    /// `RuntimeWarning`.
    runtime_warning = PyExc_RuntimeWarning;
    /// `StopAsyncIteration`.
    stop_async_iteration = PyExc_StopAsyncIteration;
    /// `StopIteration`.
    stop_iteration = PyExc_StopIteration;
    /// `SystemError`.
    system_error = PyExc_SystemError;
    /// `SystemExit`.
    system_exit = PyExc_SystemExit;
    /// `TimeoutError`.
    timeout_error = PyExc_TimeoutError;
    /// `TypeError`.
    type_error = PyExc_TypeError;
    /// `ValueError`.
    value_error = PyExc_ValueError;
}
