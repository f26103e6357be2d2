//! Tells the compiler which CPython it builds for (`cfg(Py_3_12)` and so on), and refuses one without a GIL: what is
//! borrowed for a single operation only is safe as long as no other thread runs Python in it.

fn main() {
    pyo3_build_config::use_pyo3_cfgs();
    if pyo3_build_config::get().is_free_threaded() {
        println!("cargo::error=velodrome needs a CPython with the GIL, this is a free-threaded build");
    }
}
