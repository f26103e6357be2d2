//! The functions of OpenSSL in the library that `_ssl` has loaded.

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_void};

/// A connection of OpenSSL's, `SSL`.
pub enum Ssl {}

/// A stream of OpenSSL's, `BIO`.
pub enum Bio {}

/// `CRYPTO_EX_new`: told of every connection that is made.
pub type NewFunction =
    unsafe extern "C" fn(*mut c_void, *mut c_void, *mut c_void, c_int, c_long, *mut c_void);

macro_rules! functions {
    ($($name:ident = $symbol:literal: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// The functions that are used, by their names in `ssl.h`, `bio.h`, `err.h` and `crypto.h`.
        #[derive(Clone, Copy, Debug)]
        pub struct Library { $(pub $name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)* }

        impl Library {
            /// Looks them up.
            fn load(handle: Handle) -> Result<Library, String> {
                Ok(Library {
                    $($name: {
                        let found = handle.symbol($symbol);
                        if found.is_null() {
                            return Err(format!("there is no {} in the library", $symbol.to_string_lossy()));
                        }
                        // SAFETY: this is the function of that name, whose type OpenSSL has never changed.
                        unsafe {
                            std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($argument),*) $(-> $result)?>(found)
                        }
                    },)*
                })
            }
        }
    };
}

functions! {
    ssl_read = c"SSL_read": fn(*mut Ssl, *mut c_void, c_int) -> c_int;
    ssl_write = c"SSL_write": fn(*mut Ssl, *const c_void, c_int) -> c_int;
    ssl_pending = c"SSL_pending": fn(*const Ssl) -> c_int;
    ssl_get_error = c"SSL_get_error": fn(*const Ssl, c_int) -> c_int;
    ssl_get_shutdown = c"SSL_get_shutdown": fn(*const Ssl) -> c_int;
    ssl_get_rbio = c"SSL_get_rbio": fn(*const Ssl) -> *mut Bio;
    ssl_get_wbio = c"SSL_get_wbio": fn(*const Ssl) -> *mut Bio;
    ssl_get_ex_data = c"SSL_get_ex_data": fn(*const Ssl, c_int) -> *mut c_void;
    ssl_get_ssl_method = c"SSL_get_ssl_method": fn(*const Ssl) -> *const c_void;
    ssl_ctrl = c"SSL_ctrl": fn(*mut Ssl, c_int, c_long, *mut c_void) -> c_long;
    bio_read = c"BIO_read": fn(*mut Bio, *mut c_void, c_int) -> c_int;
    bio_write = c"BIO_write": fn(*mut Bio, *const c_void, c_int) -> c_int;
    bio_ctrl_pending = c"BIO_ctrl_pending": fn(*mut Bio) -> usize;
    bio_method_type = c"BIO_method_type": fn(*const Bio) -> c_int;
    err_clear_error = c"ERR_clear_error": fn();
    get_ex_new_index = c"CRYPTO_get_ex_new_index":
        fn(c_int, c_long, *mut c_void, Option<NewFunction>, *mut c_void, *mut c_void) -> c_int;
}

/// A library that is loaded already.
#[derive(Clone, Copy, Debug)]
struct Handle(*mut c_void);

impl Handle {
    fn symbol(self, name: &CStr) -> *mut c_void {
        // SAFETY: a handle that is never closed, and a NUL-terminated name.
        unsafe { libc::dlsym(self.0, name.as_ptr()) }
    }
}

impl Library {
    /// The library of the extension module in this file; it stays loaded for ever.
    pub fn of(module_file: &str) -> Result<Library, String> {
        let path = CString::new(module_file).map_err(|_| String::from("_ssl has no usable file name"))?;
        // SAFETY: a NUL-terminated path; with RTLD_NOLOAD nothing is loaded, and no initialiser runs.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOLOAD | libc::RTLD_LAZY) };
        if handle.is_null() {
            return Err(String::from("_ssl is not a loaded library"));
        }
        let handle = Handle(handle);
        let ours = handle.symbol(c"SSL_new");
        // SAFETY: plain call with a NUL-terminated name.
        let global = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"SSL_new".as_ptr()) };
        if !global.is_null() && !std::ptr::eq(global, ours) {
            return Err(String::from("another OpenSSL is in the program's global scope"));
        }
        Library::load(handle)
    }

    /// Whether the methods of this connection are code of the file that `SSL_read` is in: whether there are not two copies of
    /// libssl over one libcrypto.
    ///
    /// # Safety
    /// `ssl` is a live connection.
    pub unsafe fn has_methods_of(&self, ssl: *const Ssl) -> bool {
        // SAFETY: by contract.
        let method = unsafe { (self.ssl_get_ssl_method)(ssl) };
        let file = file_of(self.ssl_read as *const c_void);
        !file.is_null() && std::ptr::eq(file, file_of(method))
    }
}

/// Where the file begins in memory that an address is in; null if it is in none.
fn file_of(address: *const c_void) -> *const c_char {
    // SAFETY: all zero is a valid value of plain pointers.
    let mut found: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: any address may be asked about.
    if unsafe { libc::dladdr(address, &mut found) } == 0 {
        return std::ptr::null();
    }
    found.dli_fbase.cast_const().cast()
}
