//! A target of cargo-fuzz: the function of `bodies` that has its name.
#![no_main]

#[allow(dead_code)] // each target calls one of them
mod bodies;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let (_, body) = bodies::TARGETS.iter().find(|(name, _)| *name == env!("CARGO_BIN_NAME")).expect("it is one of them");
    body(input);
});
