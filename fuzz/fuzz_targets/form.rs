#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| skillhook_fuzz::feed("form", data));
