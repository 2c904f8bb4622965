#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| drover_fuzz::v013(data));
