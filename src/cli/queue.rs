//! `queue`: the ledger's engine, and the way from one to another.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::context::Context;
use super::exit::Exit;
use crate::config::{Config, LedgerPlace, tells_a_password};
use crate::error::{Code, Error, Result};
use crate::ledger::migrate::{Place, migrate};
use crate::seam::Clock;

#[derive(Debug, Subcommand)]
pub enum Queue {
    /// Move everything in the ledger (deliveries, tasks, answers, conversations) to another engine
    Migrate(Migrate),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Stop the service first. Everything is copied, counted on both sides, and the old ledger is put aside under another name;
then let `[ledger]` or SKILLHOOK_LEDGER name the new one and start again. Runs that were broken off begin again. A move
that is broken off itself can be repeated: the old ledger stays as it is until the end.

A ledger is named by `redb` (the file in the data directory), `postgres://USER@HOST/DATABASE` (with PGPASSWORD), or
`env:NAME` for a URL that stands in the environment.

Exit codes: 0 done, 1 a database is away or a ledger damaged, 3 there is nothing to move, 4 the target is not empty or a
service works on one of them.

Examples:
  skillhook queue migrate --from redb --to env:SKILLHOOK_LEDGER
  skillhook queue migrate --from postgres:///hooks?host=/run/postgresql --to redb")]
pub struct Migrate {
    /// Where everything is
    #[arg(long, value_name = "LEDGER")]
    from: String,
    /// Where it is to go; nothing may be there
    #[arg(long, value_name = "LEDGER")]
    to: String,
}

impl Queue {
    pub fn run(self, context: &Context) -> Result<Exit> {
        match self {
            Queue::Migrate(command) => command.run(context),
        }
    }
}

impl Migrate {
    fn run(self, context: &Context) -> Result<Exit> {
        if self.from == self.to {
            return Err(Error::new(Code::Usage, "`--from` and `--to` name the same ledger"));
        }
        let config = context.config()?;
        let (from, to) = (place(&config, &self.from)?, place(&config, &self.to)?);
        std::fs::create_dir_all(&config.data)
            .map_err(|error| Error::new(Code::SettingInvalid, "the data directory cannot be made").detail(error))?;
        let moved = migrate(&from, &to, Clock::System.now())?;
        let rows: serde_json::Map<String, Value> =
            moved.rows.iter().map(|(table, rows)| ((*table).to_owned(), json!(rows))).collect();
        let all: u64 = moved.rows.iter().map(|(_, rows)| rows).sum();
        context.output.record(&json!({ "rows": rows, "all": all, "put_aside": moved.aside }));
        Ok(Exit::Done)
    }
}

fn place(config: &Config, line: &str) -> Result<Place> {
    if tells_a_password(line) {
        return Err(Error::new(Code::Usage, "a password on the command line is seen by every user of this machine")
            .hint("put the URL into a variable of the environment and name it: `env:NAME`"));
    }
    Ok(match config.ledger_at(line)? {
        LedgerPlace::File => Place::File(config.data.clone()),
        LedgerPlace::Postgres(url) => Place::Postgres(url),
    })
}
