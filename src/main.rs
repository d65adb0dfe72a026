//! The thin binary: everything is in the library.

use std::process::ExitCode;

<<<<<<< HEAD
use skillhook::worker::agent::{scripted, stage, supervisor, wire};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next().as_deref().and_then(std::ffi::OsStr::to_str) {
        Some(wire::SUPERVISOR_COMMAND) => supervisor::main(args),
        Some(wire::STAGE_COMMAND) => stage::main(args),
        Some(wire::SCRIPTED_COMMAND) => scripted::main(args),
        _ => ExitCode::FAILURE,
    }
=======
fn main() -> ExitCode {
    skillhook::cli::main()
>>>>>>> h-cli
}
