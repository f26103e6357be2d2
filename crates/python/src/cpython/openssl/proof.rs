//! Whether connections can be read and written natively here at all: asked once, of a throw-away connection.

use std::sync::OnceLock;

use crate::cpython::object::{self, Obj, Ref};
use crate::cpython::raised::Fallible;

use super::capture;
use super::library::{Library, Ssl};

/// What was found out.
#[derive(Debug)]
pub struct Verdict {
    /// The library, if everything is proven.
    pub(super) library: Option<Library>,
    /// Why not, if not.
    pub reason: Option<String>,
}

static VERDICT: OnceLock<Verdict> = OnceLock::new();

/// `BIO_TYPE_MEM`.
const MEMORY: i32 = 1 | 0x0400;

/// The verdict; the first call tries. (Python runs meanwhile; should it ask again, both find the same.)
pub fn verdict() -> &'static Verdict {
    if let Some(verdict) = VERDICT.get() {
        return verdict;
    }
    let found = match prove() {
        Ok(Ok(library)) => Verdict { library: Some(library), reason: None },
        Ok(Err(reason)) => Verdict { library: None, reason: Some(reason) },
        Err(raised) => {
            let exception = raised.take();
            Verdict { library: None, reason: Some(format!("the attempt raised {}", exception.shown())) }
        }
    };
    VERDICT.get_or_init(|| found)
}

fn prove() -> Fallible<Result<Library, String>> {
    if std::env::var_os("VELODROME_TLS").is_some_and(|value| value == "fallback") {
        return Ok(Err(String::from("VELODROME_TLS=fallback")));
    }
    let Some(module) = import_if_there()? else { return Ok(Err(String::from("there is no ssl module"))) };
    let Some(file) = module.get_if_there(&*object::interned(c"__file__")?)? else {
        return Ok(Err(String::from("_ssl is built into the interpreter")));
    };
    let library = match Library::of(&file.to_text()) {
        Ok(library) => library,
        Err(reason) => return Ok(Err(reason)),
    };
    if !capture::register(&library) {
        return Ok(Err(String::from("OpenSSL does not tell of new connections")));
    }
    let ssl = object::import(c"ssl")?;
    let get = |name| ssl.get(&*object::interned(name)?);
    let context = get(c"SSLContext")?.call(&[&*get(c"PROTOCOL_TLS_SERVER")?])?;
    let bio = get(c"MemoryBIO")?;
    let server_side = object::tuple(&[&*object::interned(c"server_side")?])?;
    let arguments: [&Obj; 3] = [&*bio.call(&[])?, &*bio.call(&[])?, object::boolean(true)];
    capture::begin();
    let made = context.call_method_with_keywords(&*object::interned(c"wrap_bio")?, &arguments, &server_side);
    let noted = capture::end();
    let made = made?;
    let Some(noted) = noted else {
        return Ok(Err(String::from("no connection was seen being made")));
    };
    // SAFETY: the connection was made in this thread just now, and `made` keeps it alive if it is its own, as is asked first.
    let proven = unsafe { is_of(&library, noted, &*owner_of(&made)?) && library.has_methods_of(noted) };
    Ok(if proven { Ok(library) } else { Err(String::from("the connection that was seen is another one")) })
}

fn import_if_there() -> Fallible<Option<Ref>> {
    match object::import(c"_ssl") {
        Ok(module) => Ok(Some(module)),
        Err(raised) if raised.matches(object::import_error()) => {
            raised.discard();
            Ok(None)
        }
        Err(raised) => Err(raised),
    }
}

/// `SSLObject._sslobj`: the object in C that owns the connection.
pub fn owner_of(ssl_object: &Obj) -> Fallible<Ref> {
    ssl_object.get(&*object::interned(c"_sslobj")?)
}

/// Whether a connection says that it belongs to this object, and reads from and writes to memory.
///
/// # Safety
/// `ssl` was made in this thread since the last time that Python could drop it, or `owner` keeps it alive.
pub unsafe fn is_of(library: &Library, ssl: *mut Ssl, owner: &Obj) -> bool {
    // SAFETY: by contract.
    unsafe {
        let says = (library.ssl_get_ex_data)(ssl, 0);
        if !std::ptr::eq(says, owner.as_ptr().cast()) {
            return false;
        }
        let (incoming, outgoing) = ((library.ssl_get_rbio)(ssl), (library.ssl_get_wbio)(ssl));
        !incoming.is_null()
            && !outgoing.is_null()
            && (library.bio_method_type)(incoming) == MEMORY
            && (library.bio_method_type)(outgoing) == MEMORY
    }
}
