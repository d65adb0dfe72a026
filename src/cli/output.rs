//! The only place that prints. Data goes to standard output, everything else to standard error.
//!
//! Colour goes to terminals only and never says anything that the words do not. What other people wrote (texts of
//! deliveries, answers of agents) may hold escape sequences: control characters are shown, not sent. A reader that
//! goes away (`| head`) ends the command quietly.

use std::io::{self, BufRead as _, IsTerminal as _, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use serde_json::Value;

use super::exit::Exit;
use super::sheet::{self, Sheet};
use super::{record, snippet};
use crate::error::{Code, Error, Result};
use crate::model::diagnostic::Diagnostic;

pub(super) const GOOD: Style = AnsiColor::Green.on_default();
pub(super) const CARE: Style = AnsiColor::Yellow.on_default();
pub(super) const BAD: Style = AnsiColor::Red.on_default();
pub(super) const STRONG: Style = Style::new().bold();

/// How data is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Aligned columns
    #[default]
    Table,
    /// Aligned columns, more of them
    Wide,
    Json,
    Yaml,
    /// `kind/name`, one a line
    Name,
}

impl Format {
    /// Whether programs read it: then the value is printed as it is, and nothing around it.
    pub fn is_machine(self) -> bool {
        match self {
            Format::Json | Format::Yaml => true,
            Format::Table | Format::Wide | Format::Name => false,
        }
    }
}

/// When colours are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    /// On terminals, unless `NO_COLOR` is set
    #[default]
    Auto,
    Always,
    Never,
}

/// Both streams of this process, or two buffers in tests.
pub struct Output {
    pub format: Format,
    quiet: bool,
    interactive: bool,
    out: Mutex<Pipe>,
    err: Mutex<Pipe>,
}

struct Pipe {
    stream: AutoStream<Box<dyn Write + Send>>,
    trouble: Option<io::Error>,
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output").field("format", &self.format).finish_non_exhaustive()
    }
}

impl Pipe {
    fn new(to: impl Write + Send + 'static, choice: ColorChoice) -> Mutex<Self> {
        Mutex::new(Self { stream: AutoStream::new(Box::new(to), choice), trouble: None })
    }

    fn write(&mut self, text: &str) {
        if self.trouble.is_none()
            && let Err(error) = self.stream.write_all(text.as_bytes()).and_then(|()| self.stream.flush())
        {
            self.trouble = Some(error);
        }
    }
}

impl Output {
    /// For the streams of this process.
    pub fn new(format: Format, color: Color, quiet: bool) -> Self {
        let choice = |stream_says: ColorChoice| match color {
            Color::Auto => stream_says,
            Color::Always => ColorChoice::Always,
            Color::Never => ColorChoice::Never,
        };
        let out = Pipe::new(io::stdout(), choice(AutoStream::choice(&io::stdout())));
        let err = Pipe::new(io::stderr(), choice(AutoStream::choice(&io::stderr())));
        let interactive = io::stdin().is_terminal() && io::stderr().is_terminal();
        Self { format, quiet, interactive, out, err }
    }

    /// Whether colours are shown on standard error, where logs go.
    pub fn shows_colours_aside(&self) -> bool {
        let err = self.err.lock().unwrap_or_else(PoisonError::into_inner);
        err.stream.current_choice() != ColorChoice::Never
    }

    /// A line of data, ours or made harmless with [`harmless`].
    pub fn line(&self, text: &str) {
        self.text(&format!("{text}\n"));
    }

    /// Data as it is.
    pub fn text(&self, text: &str) {
        self.out.lock().unwrap_or_else(PoisonError::into_inner).write(text);
    }

    /// Standard output for those who write by themselves. Trouble with it is dealt with at the [`end`](Self::end).
    pub fn writer(&self) -> impl Write + Send + '_ {
        Writer(self)
    }

    /// Says on the side what happens; `--quiet` hears nothing of it.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            self.aside(text);
        }
    }

    fn aside(&self, text: &str) {
        self.err.lock().unwrap_or_else(PoisonError::into_inner).write(&format!("{text}\n"));
    }

    /// A value: as JSON, as YAML, or by `people` as text.
    pub fn value(&self, value: &Value, people: impl FnOnce(&Value) -> String) {
        match self.format {
            Format::Json => self.text(&json(value)),
            Format::Yaml => self.text(&yaml(value)),
            Format::Table | Format::Wide | Format::Name => self.text(&people(value)),
        }
    }

    /// A value whose fields people read one below the other.
    pub fn record(&self, value: &Value) {
        self.value(value, record::shown);
    }

    /// A list in the form that was asked for.
    pub fn list(&self, sheet: &Sheet, items: &[Value]) {
        match self.format {
            Format::Json => self.text(&json(&Value::from(items))),
            Format::Yaml => self.text(&yaml(&Value::from(items))),
            Format::Name => self.text(&sheet::names(sheet, items)),
            Format::Table | Format::Wide if items.is_empty() => self.note(&format!("no {}", sheet.plural)),
            Format::Table | Format::Wide => self.text(&sheet::table(sheet, items, self.format == Format::Wide)),
        }
    }

    /// Trouble, in words that a person can act on.
    pub fn error(&self, error: &Error) {
        self.aside(&format!("{BAD}error[{}]{BAD:#}: {}", error.code(), harmless(error.message())));
        if let Some(hint) = error.hint_text() {
            self.aside(&format!("  {STRONG}hint{STRONG:#}: {}", harmless(hint)));
        }
        if error.code() != Code::Usage {
            self.note(&format!("  more: skillhook error {}", error.code()));
        }
    }

    /// Findings in files, each with the lines it is about where they can be read below `root`.
    pub fn diagnostics(&self, findings: &[Diagnostic], root: &Path) {
        for finding in findings {
            self.aside(&snippet::shown(finding, root));
        }
    }

    /// Asks a person for consent. Without a terminal nobody is asked, and nothing is done.
    ///
    /// # Errors
    /// SH0902 when there is nobody to ask.
    pub fn confirmed(&self, question: &str) -> Result<bool> {
        if !self.interactive {
            return Err(Error::new(Code::Usage, "this needs a confirmation, and there is no terminal to ask on")
                .hint("add `--yes` if it is meant"));
        }
        self.err.lock().unwrap_or_else(PoisonError::into_inner).write(&format!("{question} [y/N] "));
        let mut answer = String::new();
        let read = io::stdin().lock().read_line(&mut answer);
        Ok(read.is_ok() && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
    }

    /// Whether nobody reads standard output any more: long commands end then.
    pub fn is_closed(&self) -> bool {
        self.out.lock().unwrap_or_else(PoisonError::into_inner).trouble.is_some()
    }

    /// What a command ends with once everything is printed.
    pub fn end(&self, exit: Exit) -> Exit {
        let trouble = self.out.lock().unwrap_or_else(PoisonError::into_inner).trouble.take();
        match trouble {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                self.aside(&format!("{BAD}error{BAD:#}: standard output cannot be written: {error}"));
                if exit == Exit::Done { Exit::Difference } else { exit }
            }
            Some(_) | None => exit,
        }
    }
}

struct Writer<'a>(&'a Output);

impl Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.text(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the parser of the command line says: help and version as data, mistakes on the side.
pub fn refused(said: &clap::Error) -> Exit {
    let printed = said.print();
    let usage = said.use_stderr();
    match printed {
        Err(error) if !usage && error.kind() != io::ErrorKind::BrokenPipe => Exit::Difference,
        Ok(()) | Err(_) if usage => Exit::Usage,
        Ok(()) | Err(_) => Exit::Done,
    }
}

/// Says something without an [`Output`]: when everything else has failed.
pub fn alone(error: &Error) {
    Output::new(Format::Table, Color::Auto, false).error(error);
}

/// Text of unknown origin, on one line and without anything that a terminal would act on.
pub fn harmless(text: &str) -> String {
    text.chars().map(|c| if is_acting(c) || c == '\n' || c == '\t' { ' ' } else { c }).collect()
}

/// As [`harmless`], but lines stay lines.
pub fn harmless_lines(text: &str) -> String {
    text.chars().filter(|c| *c != '\r').map(|c| if is_acting(c) { '\u{fffd}' } else { c }).collect()
}

/// Control characters, and those that turn the direction of writing or are invisible.
fn is_acting(c: char) -> bool {
    let control = c.is_control() && c != '\n' && c != '\t';
    control || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

pub fn json(value: &Value) -> String {
    format!("{value:#}\n")
}

pub fn yaml(value: &Value) -> String {
    serde_yaml::to_string(value).unwrap_or_else(|_| json(value))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    pub(crate) struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Buffer {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Gone(io::ErrorKind);

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// An output that remembers: standard output and standard error.
    pub(crate) fn buffered(format: Format) -> (Output, Buffer, Buffer) {
        let (out, err) = (Buffer::default(), Buffer::default());
        let pipes = (Pipe::new(out.clone(), ColorChoice::Never), Pipe::new(err.clone(), ColorChoice::Never));
        (Output { format, quiet: false, interactive: false, out: pipes.0, err: pipes.1 }, out, err)
    }

    #[test]
    fn errors_go_to_the_side_with_code_and_hint_and_without_escapes() {
        let (output, out, err) = buffered(Format::Table);
        output.error(&Error::new(Code::NotFound, "no task `\u{1b}[2Jx`").hint("look at `skillhook get tasks`"));
        assert_eq!(out.text(), "");
        let expected =
            "error[SH0901]: no task ` [2Jx`\n  hint: look at `skillhook get tasks`\n  more: skillhook error SH0901\n";
        assert_eq!(err.text(), expected);
    }

    #[test]
    fn a_reader_that_goes_away_ends_quietly_and_a_full_disk_does_not() {
        for (kind, expected) in
            [(io::ErrorKind::BrokenPipe, Exit::Done), (io::ErrorKind::StorageFull, Exit::Difference)]
        {
            let (mut output, _, err) = buffered(Format::Table);
            output.out = Pipe::new(Gone(kind), ColorChoice::Never);
            output.line("x");
            assert!(output.is_closed());
            assert_eq!(output.end(Exit::Done), expected);
            assert_eq!(err.text().is_empty(), expected == Exit::Done);
        }
    }

    #[test]
    fn nobody_is_asked_without_a_terminal() {
        let (output, _, err) = buffered(Format::Table);
        assert_eq!(output.confirmed("cancel?").unwrap_err().code(), Code::Usage);
        assert_eq!(err.text(), "");
    }

    #[test]
    fn values_are_machine_readable_where_asked() {
        let value = serde_json::json!({"b": 1, "a": [true]});
        for (format, expected) in
            [(Format::Json, "{\n  \"b\": 1,\n  \"a\": [\n    true\n  ]\n}\n"), (Format::Yaml, "b: 1\na:\n- true\n")]
        {
            let (output, out, _) = buffered(format);
            output.record(&value);
            assert_eq!(out.text(), expected);
        }
    }
}
