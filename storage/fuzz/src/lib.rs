//! What must hold for any archive, for fuzzers.
//!
//! In come bytes; nothing comes out, a property that doesn't hold panics. `storage/tests/fuzz_corpus.rs` includes the
//! same files by path, so that an ordinary test run covers the properties without a fuzzer.

#[path = "../../tests/builder/mod.rs"]
pub mod builder;
pub mod property;
