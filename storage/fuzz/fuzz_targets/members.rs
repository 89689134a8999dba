//! The fuzzer's way to [`property::members`]: archives put together as the bytes say, with every hash right.
#![no_main]

use stockpredictor_storage_fuzz::property;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    property::members(input);
});
