//! The fuzz functions, for libFuzzer. They live with the tests of core, which execute them on stable.

#[path = "../../tests/common/mod.rs"]
mod common;
#[path = "../../tests/fuzz/functions/mod.rs"]
pub mod functions;
