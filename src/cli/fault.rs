//! What people see when skillhook itself is at fault: a code, what to do, and exit code 70 instead of a stack trace.

use std::any::Any;
use std::panic::{self, PanicHookInfo, UnwindSafe};

use super::exit::Exit;
use super::output;
use crate::error::{Code, Error};

/// Runs the program; a panic of its main thread ends it with a report. Panics of other threads are reported too, and
/// it is for those who started these threads to end what depends on them.
pub fn guarded(program: impl FnOnce() -> Exit + UnwindSafe) -> Exit {
    panic::set_hook(Box::new(|fault| output::alone(&report(fault))));
    panic::catch_unwind(program).unwrap_or(Exit::Bug)
}

fn report(fault: &PanicHookInfo<'_>) -> Error {
    let place = fault.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    describe(said(fault.payload()), &place)
}

fn describe(said: &str, place: &str) -> Error {
    Error::new(Code::Bug, format!("skillhook {} has a fault: {said} (at {place})", env!("CARGO_PKG_VERSION")))
        .hint("please report this line with what you did; `skillhook doctor` shows what else to include")
}

fn said(payload: &(dyn Any + Send)) -> &str {
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (None, Some(text)) => text,
        (None, None) => "it does not say what",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_bug_with_its_place() {
        let before = panic::take_hook();
        let ends = [guarded(|| Exit::NotFound), guarded(|| panic!("on purpose"))];
        panic::set_hook(before);
        assert_eq!(ends, [Exit::NotFound, Exit::Bug]);
        let shown = describe("on purpose", "src/x.rs:1:2").to_string();
        assert!(shown.starts_with("[SH0999] skillhook ") && shown.ends_with("on purpose (at src/x.rs:1:2)"), "{shown}");
    }
}
