//! The thin binary: everything is in the library.

use std::process::ExitCode;

use skillhook::worker::agent::{scripted, stage, supervisor, wire};

fn main() -> ExitCode {
    // The processes around an agent run are this program again. They are not for people, so the command line does
    // not know them, and nothing that it sets up stands in their way.
    let mut args = std::env::args_os().skip(1);
    match args.next().as_deref().and_then(std::ffi::OsStr::to_str) {
        Some(wire::SUPERVISOR_COMMAND) => supervisor::main(args),
        Some(wire::STAGE_COMMAND) => stage::main(args),
        Some(wire::SCRIPTED_COMMAND) => scripted::main(args),
        _ => skillhook::cli::main(),
    }
}
