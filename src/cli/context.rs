//! What every command has at hand: the output, the settings, the server.

use std::future::Future;
use std::time::Duration;

use super::client::Client;
use super::exit::Exit;
use super::output::Output;
use crate::config::{Config, Overrides};
use crate::error::{Code, Context as _, Result};

#[derive(Debug)]
pub struct Context {
    pub output: Output,
    pub overrides: Overrides,
}

impl Context {
    /// The settings of the root that the command line names.
    ///
    /// # Errors
    /// SH0301.
    pub fn config(&self) -> Result<Config> {
        Config::load(&self.overrides)
    }

    /// # Errors
    /// SH0301: the settings say where the server's socket is.
    pub fn client(&self) -> Result<Client> {
        Ok(Client::new(self.config()?.admin_socket()))
    }

    /// Runs a command that waits for the server, on this thread.
    ///
    /// # Errors
    /// Those of the command.
    pub fn block_on(&self, command: impl Future<Output = Result<Exit>>) -> Result<Exit> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context(Code::Bug, "the runtime cannot be started")?;
        runtime.block_on(command)
    }
}

/// Reads `90`, `90s`, `5m`, `2h` or `1d`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err("the units are `s`, `m`, `h` and `d`".to_owned()),
    };
    let count: u64 = digits.parse().map_err(|_| "expected a number and a unit, for example `90s`".to_owned())?;
    count.checked_mul(unit).map(Duration::from_secs).ok_or_else(|| "that is too long".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        for (text, seconds) in [("5", 5), ("90s", 90), ("2m", 120), ("1h", 3600), ("1d", 86_400)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)));
        }
        for bad in ["", "s", "5w", "-1s", "1.5h", "99999999999999999999d", "5m m"] {
            duration(bad).unwrap_err();
        }
    }
}
