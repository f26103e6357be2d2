//! What asyncio's own code, of the Python underneath, says about how it behaves.
//!
//! Patch releases differ, so its functions are asked at import which names they use, rather than the version. Asked is what
//! is behind anything that a tool has wrapped around them (`functools.wraps`).

use std::ffi::CStr;

use crate::cpython::object;
use crate::cpython::{Fallible, Obj, Ref};

/// A function's code.
#[derive(Debug)]
pub struct Code(Ref);

impl Code {
    /// Of `place.name`, where `place` is a module or a class.
    pub fn of(place: &Obj, name: &CStr) -> Fallible<Code> {
        Code::behind(place.get(&*object::interned(name)?)?)
    }

    /// Of `place.name`, if there is one.
    pub fn if_there(place: &Obj, name: &CStr) -> Fallible<Option<Code>> {
        place.get_if_there(&*object::interned(name)?)?.map(Code::behind).transpose()
    }

    fn behind(mut function: Ref) -> Fallible<Code> {
        let wrapped = object::interned(c"__wrapped__")?;
        while let Some(behind) = function.get_if_there(&wrapped)? {
            function = behind;
        }
        function.get(&*object::interned(c"__code__")?).map(Code)
    }

    /// Whether the code itself uses a global name or an attribute of this name.
    pub fn uses(&self, name: &str) -> Fallible<bool> {
        self.lists(c"co_names", name)
    }

    /// Whether it has a parameter or a variable of this name.
    pub fn has_variable(&self, name: &str) -> Fallible<bool> {
        self.lists(c"co_varnames", name)
    }

    fn lists(&self, list: &CStr, name: &str) -> Fallible<bool> {
        let names = self.0.get(&*object::interned(list)?)?.items()?;
        Ok(names.iter().any(|listed| listed.to_text() == name))
    }

    /// Whether there is a text among its constants in which this occurs.
    pub fn says(&self, text: &str) -> Fallible<bool> {
        let constants = self.0.get(&*object::interned(c"co_consts")?)?.items()?;
        Ok(constants.iter().any(|constant| constant.to_text().contains(text)))
    }

    /// Whether it handles exceptions anywhere.
    pub fn handles_exceptions(&self) -> Fallible<bool> {
        self.0.get(&*object::interned(c"co_exceptiontable")?)?.truthy()
    }

    /// The code of the functions inside.
    pub fn inner(&self) -> Fallible<Vec<Code>> {
        let mut inner = Vec::new();
        for constant in self.0.get(&*object::interned(c"co_consts")?)?.items()? {
            if constant.is_exactly(self.0.class()) {
                inner.push(Code(constant));
            }
        }
        Ok(inner)
    }

    /// Whether it takes any keyword argument.
    pub fn takes_any_keyword(&self) -> Fallible<bool> {
        const CO_VARKEYWORDS: i64 = 0x08;
        Ok(self.0.get(&*object::interned(c"co_flags")?)?.to_i64()? & CO_VARKEYWORDS != 0)
    }

    /// How many arguments it takes by position, `self` included.
    pub fn argument_count(&self) -> Fallible<usize> {
        let count = self.0.get(&*object::interned(c"co_argcount")?)?.to_i64()?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// The code object.
    pub fn object(&self) -> &Obj {
        &self.0
    }
}
