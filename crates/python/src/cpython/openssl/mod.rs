//! OpenSSL, as the interpreter's own `ssl` module uses it: the very connection behind a Python `ssl.SSLObject`, read and
//! written without going through Python.
//!
//! Nothing is linked, and no structure's layout is assumed. [`library`] finds the functions in the library that `_ssl`
//! has loaded, [`capture`] notes the connection that a call of `wrap_bio` makes, and [`session`] reads and writes it. Python
//! keeps everything else: the object, its memory BIOs, handshake, shutdown and every exception.
//!
//! What must stay true:
//!
//! * A connection is used only while its Python object is owned, and only if it is proven to be that object's.
//! * The memory BIOs stay Python's, so that at any moment Python's own methods can go on where we stopped.
//! * What fails natively leaves OpenSSL's error queue alone and is asked of Python's method again, which raises what it
//!   always raises.

mod capture;
mod library;
mod proof;
mod session;

pub use capture::{begin, end};
pub use proof::verdict;
pub use session::{RECORD, Reading, Session};
