//! The `switchboard` program: parse, run, map to an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    switchboard::cli::main(std::env::args_os())
}
