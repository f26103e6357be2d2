//! Arguments of Python calls, and how they are matched to parameters.

use std::borrow::Cow;

use super::ffi;
use super::object::{self, Obj};
use super::raised::{Fallible, Raised};

/// Arguments as they came: by vectorcall, or as a tuple and a dictionary.
#[derive(Clone, Copy, Debug)]
pub struct Args<'a> {
    positional: &'a [&'a Obj],
    keywords: Keywords<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Keywords<'a> {
    None,
    /// Values, and the tuple of their names.
    Vector(&'a [&'a Obj], &'a Obj),
    Dict(&'a Obj),
}

/// Parameters of a function: `names[..positional]` may be given by position, all of them by name, and
/// `names[..required]` have no default. One without a name can be given by position only.
#[derive(Debug)]
pub struct Signature<const N: usize> {
    pub function: &'static str,
    pub names: [&'static str; N],
    pub positional: usize,
    pub required: usize,
}

impl<'a> Args<'a> {
    /// # Safety
    /// The arguments of a vectorcall: `count` objects, and one for each name in `names`, live for `'a`.
    #[inline]
    pub(super) unsafe fn from_vectorcall(
        arguments: *const *mut ffi::PyObject,
        count: isize,
        names: *mut ffi::PyObject,
    ) -> Args<'a> {
        // SAFETY: by contract; `&Obj` is a non-null pointer to an object.
        unsafe {
            let count = ffi::PyVectorcall_NARGS(count as usize) as usize;
            let positional = objects(arguments, count);
            let keywords = match Obj::from_ptr_or_null(names) {
                Some(names) if object::tuple_len(names) > 0 => {
                    Keywords::Vector(objects(arguments.add(count), object::tuple_len(names)), names)
                }
                _ => Keywords::None,
            };
            Args { positional, keywords }
        }
    }

    /// # Safety
    /// `tuple` is a tuple and `dict` a dictionary or NULL, live for `'a`.
    pub(super) unsafe fn from_tuple_and_dict(
        tuple: *mut ffi::PyObject,
        dict: *mut ffi::PyObject,
    ) -> Args<'a> {
        // SAFETY: by contract.
        unsafe {
            let items = (&raw mut (*tuple.cast::<ffi::PyTupleObject>()).ob_item).cast();
            let keywords = match Obj::from_ptr_or_null(dict) {
                Some(dict) if ffi::PyDict_Size(dict.as_ptr()) > 0 => Keywords::Dict(dict),
                _ => Keywords::None,
            };
            Args { positional: objects(items, ffi::PyTuple_GET_SIZE(tuple) as usize), keywords }
        }
    }

    /// The arguments given by position.
    #[inline]
    pub fn positional(&self) -> &'a [&'a Obj] {
        self.positional
    }

    /// Whether there are no keyword arguments.
    #[inline]
    pub fn has_keywords(&self) -> bool {
        !matches!(self.keywords, Keywords::None)
    }

    /// The keyword arguments, by name. The values are borrowed from the caller, who holds them for the call.
    fn keywords(&self) -> Fallible<Vec<(&'a Obj, &'a Obj)>> {
        match self.keywords {
            Keywords::None => Ok(Vec::new()),
            Keywords::Vector(values, names) => values
                .iter()
                .enumerate()
                .map(|(index, value)| {
                    // SAFETY: in range, and the tuple of names outlives the call.
                    let name = unsafe { Obj::from_ptr(ffi::PyTuple_GetItem(names.as_ptr(), index as isize)) };
                    Ok((name, *value))
                })
                .collect(),
            Keywords::Dict(dict) => {
                let mut pairs = Vec::new();
                let (mut position, mut key, mut value) = (0, std::ptr::null_mut(), std::ptr::null_mut());
                // SAFETY: the dictionary of a call belongs to it and does not change while it is read here.
                unsafe {
                    while ffi::PyDict_Next(dict.as_ptr(), &mut position, &mut key, &mut value) != 0 {
                        pairs.push((Obj::from_ptr(key), Obj::from_ptr(value)));
                    }
                }
                Ok(pairs)
            }
        }
    }

    /// Matches the arguments to the parameters; those not given are `None`.
    #[inline]
    pub fn parse<const N: usize>(&self, signature: &Signature<N>) -> Fallible<[Option<&'a Obj>; N]> {
        match <&[&Obj; N]>::try_from(self.positional) {
            Ok(all) if signature.positional == N && !self.has_keywords() => Ok(all.map(Some)),
            _ => self.match_names(signature),
        }
    }

    #[inline(never)]
    fn match_names<const N: usize>(&self, signature: &Signature<N>) -> Fallible<[Option<&'a Obj>; N]> {
        let given = self.positional.len();
        if given > signature.positional {
            return Err(Raised::type_error(&format!(
                "{}() takes at most {} positional argument{} ({given} given)",
                signature.function,
                signature.positional,
                if signature.positional == 1 { "" } else { "s" },
            )));
        }
        let mut values = [None; N];
        for (place, value) in values.iter_mut().zip(self.positional) {
            *place = Some(*value);
        }
        if self.has_keywords() {
            for (name, value) in self.keywords()? {
                self.place_keyword(signature, &mut values, name, value)?;
            }
        }
        if let Some(missing) = values[..signature.required].iter().position(Option::is_none) {
            return Err(Raised::type_error(&format!(
                "{}() missing required argument '{}' (pos {})",
                signature.function,
                signature.names[missing],
                missing + 1,
            )));
        }
        Ok(values)
    }

    /// The one argument of a function that has one parameter.
    #[inline]
    pub fn only(&self, function: &'static str, name: &'static str) -> Fallible<&'a Obj> {
        match (self.positional, self.keywords) {
            ([only], Keywords::None) => Ok(*only),
            _ => self.only_by_name(function, name),
        }
    }

    #[cold]
    fn only_by_name(&self, function: &'static str, name: &'static str) -> Fallible<&'a Obj> {
        let [only] = self.parse(&Signature { function, names: [name], positional: 1, required: 1 })?;
        Ok(only.unwrap_or(object::none()))
    }

    fn place_keyword<const N: usize>(
        &self,
        signature: &Signature<N>,
        values: &mut [Option<&'a Obj>; N],
        name: &Obj,
        value: &'a Obj,
    ) -> Fallible<()> {
        let text = name.to_text();
        let Some(index) = signature.names.iter().position(|known| *known == text && !known.is_empty()) else {
            return Err(Raised::type_error(&format!(
                "{}() got an unexpected keyword argument '{text}'",
                signature.function
            )));
        };
        if values[index].replace(value).is_some() {
            return Err(Raised::type_error(&format!(
                "argument for {}() given by name ('{text}') and position ({})",
                signature.function,
                index + 1,
            )));
        }
        Ok(())
    }

    /// For functions of the shape `f(a, b, *args, context=None)`: the arguments by position, at least those that are
    /// `required` (which may come by name), and the one other keyword that there may be.
    #[inline]
    pub fn variadic(
        &self,
        function: &str,
        required: &[&str],
        keyword: Option<&str>,
    ) -> Fallible<(Cow<'a, [&'a Obj]>, Option<&'a Obj>)> {
        if self.has_keywords() {
            return self.variadic_with_keywords(function, required, keyword);
        }
        match required.get(self.positional.len()) {
            None => Ok((Cow::Borrowed(self.positional), None)),
            Some(missing) => Err(missing_argument(function, missing, self.positional.len())),
        }
    }

    #[inline(never)]
    fn variadic_with_keywords(
        &self,
        function: &str,
        required: &[&str],
        keyword: Option<&str>,
    ) -> Fallible<(Cow<'a, [&'a Obj]>, Option<&'a Obj>)> {
        let mut named = vec![None; required.len()];
        let mut value = None;
        for (name, given) in self.keywords()? {
            let text = name.to_text();
            if keyword == Some(text.as_str()) {
                value = Some(given);
                continue;
            }
            let Some(index) = required.iter().position(|known| *known == text) else {
                return Err(Raised::type_error(&format!(
                    "{function}() got an unexpected keyword argument '{text}'"
                )));
            };
            if index < self.positional.len() {
                return Err(Raised::type_error(&format!(
                    "{function}() got multiple values for argument '{text}'"
                )));
            }
            named[index] = Some(given);
        }
        let mut all = self.positional.to_vec();
        for (index, name) in required.iter().enumerate().skip(self.positional.len()) {
            all.push(named[index].ok_or_else(|| missing_argument(function, name, index))?);
        }
        Ok((Cow::Owned(all), value))
    }

    /// A keyword argument.
    pub fn keyword(&self, name: &str) -> Fallible<Option<super::object::Ref>> {
        let keywords = self.keywords()?;
        Ok(keywords.iter().find(|(key, _)| key.to_text() == name).map(|(_, value)| value.own()))
    }

    /// For functions of the shape `f(a, b, **keywords)`: both, and the keyword arguments that are neither.
    #[allow(clippy::type_complexity, reason = "taken apart at once")]
    pub fn two_and_keywords(
        &self,
        function: &str,
        names: [&str; 2],
    ) -> Fallible<([&'a Obj; 2], Vec<(&'a Obj, &'a Obj)>)> {
        let mut values = [self.positional.first().copied(), self.positional.get(1).copied()];
        let mut others = Vec::new();
        for (name, value) in self.keywords()? {
            let text = name.to_text();
            match names.iter().position(|known| *known == text) {
                None => others.push((name, value)),
                Some(place) if values[place].replace(value).is_none() => {}
                Some(_) => {
                    return Err(Raised::type_error(&format!(
                        "{function}() got multiple values for argument '{text}'"
                    )));
                }
            }
        }
        match (values, self.positional.len()) {
            ([Some(first), Some(second)], 0..=2) => Ok(([first, second], others)),
            ([_, _], given @ 3..) => Err(Raised::type_error(&format!(
                "{function}() takes 2 positional arguments but {given} were given"
            ))),
            ([first, _], given) => {
                Err(missing_argument(function, names[usize::from(first.is_some())], given))
            }
        }
    }

    /// The arguments for later: all values, and the names of the last ones, if there are any.
    pub fn keep(&self) -> Fallible<(object::Ref, Option<object::Ref>)> {
        let keywords = self.keywords()?;
        let values: Vec<&Obj> =
            self.positional.iter().copied().chain(keywords.iter().map(|(_, value)| *value)).collect();
        let names: Vec<&Obj> = keywords.iter().map(|(name, _)| *name).collect();
        let names = if names.is_empty() { None } else { Some(object::tuple(&names)?) };
        Ok((object::tuple(&values)?, names))
    }

    /// Calls `callee(first, …positional, **keywords)` with these very arguments, as a method would be passed on.
    pub fn forward(&self, callee: &Obj, first: &[&Obj]) -> Fallible<super::object::Ref> {
        let mut arguments: Vec<&Obj> = first.iter().copied().chain(self.positional.iter().copied()).collect();
        let keywords = self.keywords()?;
        if keywords.is_empty() {
            return callee.call(&arguments);
        }
        let names: Vec<&Obj> = keywords.iter().map(|(name, _)| *name).collect();
        arguments.extend(keywords.iter().map(|(_, value)| *value));
        callee.call_with_keywords(&arguments, &*object::tuple(&names)?)
    }
}

#[cold]
fn missing_argument(function: &str, name: &str, index: usize) -> Raised {
    Raised::type_error(&format!("{function}() missing required argument '{name}' (pos {})", index + 1))
}

/// # Safety
/// `first` points at `count` live objects (and may be dangling or NULL when `count` is 0).
#[inline]
unsafe fn objects<'a>(first: *const *mut ffi::PyObject, count: usize) -> &'a [&'a Obj] {
    if count == 0 {
        return &[];
    }
    // SAFETY: by contract; a `&Obj` is a non-null object pointer.
    unsafe { std::slice::from_raw_parts(first.cast::<&Obj>(), count) }
}
