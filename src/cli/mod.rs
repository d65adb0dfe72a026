//! The command line: parses it, runs one command, prints through `output`, and ends with an exit code that scripts
//! can rely on (`exit`).
//!
//! Commands that need live state are clients of the running server (`client`); commands about files work without
//! one. Nothing in here decides anything about webhooks: it asks the rooms that do.

mod about;
mod add;
mod chat;
mod client;
mod context;
mod delivery;
mod doctor;
mod exit;
mod fault;
mod files;
mod get;
mod init;
mod kind;
mod live;
mod mcp;
mod output;
mod plan;
mod queue;
mod record;
mod replay;
mod report;
mod restore;
mod seal;
mod serve;
mod settings_file;
mod sheet;
mod snippet;
mod task;
mod token;
mod trigger;
mod versions;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueHint};

use crate::config::Overrides;
use crate::error::Result;
use crate::worker::agent::{self, wire};
use context::Context;
use exit::Exit;
use output::{Color, Format, Output};

/// The whole program.
pub fn main() -> ExitCode {
    match hidden_command() {
        Some(exit) => exit,
        None => fault::guarded(run).into(),
    }
}

/// The parts of an agent run that are processes of their own. They are not for people, and nothing of the command line
/// (colours, parsing, a runtime) may come between them and their parent.
fn hidden_command() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next()?.to_str()? {
        wire::SUPERVISOR_COMMAND => Some(agent::supervisor::main(arguments)),
        wire::STAGE_COMMAND => Some(agent::stage::main(arguments)),
        wire::SCRIPTED_COMMAND => Some(agent::scripted::main(arguments)),
        _ => None,
    }
}

/// The definition of the command line, for completion and for checks of the documentation.
pub fn command() -> clap::Command {
    Cli::command()
}

/// A webhook gateway for coding agents
#[derive(Debug, Parser)]
#[command(
    name = "skillhook",
    version,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "`skillhook COMMAND --help` shows the options and examples of a command.",
    after_long_help = "\
Exit codes:
  0 done   1 a difference, not ready or failed   2 wrong usage or invalid file   3 not found
  4 refused   5 out of time   6 server or remote away   70 a fault of skillhook itself

Settings come from flags, then the environment (SKILLHOOK_SERVER_LISTEN for server.listen), then skillhook.toml.
`skillhook error CODE` explains every code that a message carries."
)]
#[command(long_about = "\
A webhook gateway for coding agents.

Webhooks, their commands and the agents that run them are files: `.claude/skills/NAME/SKILL.md` and \
`.claude/agents/NAME.md` in a git repository. `skillhook up` serves what the files say, follows every change of \
them, and answers at the source when a run has ended.")]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Everywhere")]
struct Global {
    /// The git work tree that holds `.claude/`
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    root: Option<PathBuf>,
    /// The data directory; `.skillhook` below the root if not given
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    data: Option<PathBuf>,
    /// How data is printed
    #[arg(short, long, global = true, value_name = "FORMAT", default_value = "table", hide_possible_values = true)]
    #[arg(help = "How data is printed: table, wide, json, yaml or name")]
    output: Format,
    /// When to use colours: auto, always or never
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", hide_possible_values = true)]
    color: Color,
    /// Print data and errors, nothing else
    #[arg(short, long, global = true)]
    quiet: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lay down what a repository needs: agents, skills, settings
    Init(init::Init),
    /// Serve: receive deliveries, follow the files, run agents, answer
    #[command(visible_alias = "serve")]
    Up(serve::Up),
    /// Show the whole way once, on real parts in a temporary directory
    Demo(serve::Demo),
    /// Check the files, without a server
    #[command(visible_alias = "lint")]
    Validate(files::Validate),
    /// Show what the files would change
    Plan(plan::Plan),
    /// Hold back the tasks of a webhook, or all changes of files
    Suspend(versions::Suspend),
    /// Let go what was suspended
    Resume(versions::Resume),
    /// Show the text that differs between two commits
    Diff(versions::Diff),
    /// List the commits that changed the configuration
    History(versions::History),
    /// Bring the configuration of a commit back, by a new commit
    Rollback(versions::Rollback),
    /// Ask the running server to look at the files now
    Reconcile(live::Reconcile),
    /// How the running server is
    Status(live::Status),
    /// List webhooks, skills, agents, providers, tasks or deliveries
    Get(get::Get),
    /// Show everything about one of them
    Describe(get::Describe),
    /// Say why a delivery did what it did, rule by rule
    Explain(delivery::Explain),
    /// What happened, and with -w what happens
    Events(live::Events),
    /// What the agent of a task said and did
    Logs(task::Logs),
    /// Send a signed sample delivery
    Trigger(trigger::Trigger),
    /// Send deliveries again, after showing what would happen
    Replay(replay::Replay),
    /// Put a task in the queue again
    Retry(task::Retry),
    /// Cancel a task that waits or runs
    Cancel(task::Cancel),
    /// Seal a secret, so that it may stand in a file
    Seal(seal::Seal),
    /// Which secrets are set, and setting one
    #[command(subcommand)]
    Secret(seal::Secret),
    /// Make, list and revoke tokens of the admin API
    #[command(subcommand)]
    Token(token::Token),
    /// Put a skill or an agent into the running service
    Add(add::Add),
    /// Take a skill or an agent out of it
    Remove(add::Remove),
    /// Talk with the running service: its agents answer, and change what you confirm
    Chat(chat::Chat),
    /// Pass an agent's calls of tools on to the service; the service starts it
    Mcp(mcp::Mcp),
    /// Let a task run that waits for an approval
    Approve(task::Approve),
    /// End a task that waits for an approval
    Reject(task::Reject),
    /// Move what waits to another engine
    #[command(subcommand)]
    Queue(queue::Queue),
    /// Lay everything down again from a copy
    Restore(restore::Restore),
    /// Check that everything the service needs is there
    Doctor(doctor::Doctor),
    /// Print a JSON Schema, for editors and clients
    Schema(about::Schema),
    /// Explain an error code
    Error(about::Explained),
    /// Print a completion script for a shell
    Completion(about::Completion),
    /// Print the version
    Version(about::Version),
}

fn run() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(refused) => return output::refused(&refused),
    };
    let Cli { global, command } = cli;
    let output = Output::new(global.output, global.color, global.quiet);
    let overrides = Overrides { root: global.root, data: global.data, ..Overrides::default() };
    let context = Context { output, overrides };
    let exit = match dispatch(command, &context) {
        Ok(exit) => exit,
        Err(error) => {
            context.output.error(&error);
            Exit::from(error.code())
        }
    };
    context.output.end(exit)
}

fn dispatch(command: Command, context: &Context) -> Result<Exit> {
    match command {
        Command::Init(command) => command.run(context),
        Command::Up(command) => command.run(context),
        Command::Demo(command) => command.run(context),
        Command::Validate(command) => command.run(context),
        Command::Suspend(command) => context.block_on(command.run(context)),
        Command::Resume(command) => context.block_on(command.run(context)),
        Command::Diff(command) => command.run(context),
        Command::History(command) => command.run(context),
        Command::Rollback(command) => context.block_on(command.run(context)),
        Command::Plan(command) => context.block_on(command.run(context)),
        Command::Trigger(command) => context.block_on(command.run(context)),
        Command::Doctor(command) => context.block_on(command.run(context)),
        Command::Reconcile(command) => context.block_on(command.run(context)),
        Command::Status(command) => context.block_on(command.run(context)),
        Command::Get(command) => context.block_on(command.run(context)),
        Command::Describe(command) => context.block_on(command.run(context)),
        Command::Explain(command) => context.block_on(command.run(context)),
        Command::Events(command) => context.block_on(command.run(context)),
        Command::Logs(command) => context.block_on(command.run(context)),
        Command::Replay(command) => context.block_on(command.run(context)),
        Command::Retry(command) => context.block_on(command.run(context)),
        Command::Cancel(command) => context.block_on(command.run(context)),
        Command::Seal(command) => command.run(context),
        Command::Secret(command) => context.block_on(command.run(context)),
        Command::Token(command) => context.block_on(command.run(context)),
        Command::Add(command) => context.block_on(command.run(context)),
        Command::Remove(command) => context.block_on(command.run(context)),
        Command::Chat(command) => context.block_on(command.run(context)),
        Command::Mcp(command) => context.block_on(command.run(context)),
        Command::Approve(command) => context.block_on(command.run(context)),
        Command::Reject(command) => context.block_on(command.run(context)),
        Command::Queue(command) => command.run(context),
        Command::Restore(command) => context.block_on(command.run(context)),
        Command::Schema(command) => command.run(context),
        Command::Error(command) => command.run(context),
        Command::Completion(command) => command.run(context),
        Command::Version(command) => command.run(context),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn every_command_says_what_it_does() {
        for command in command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            assert!(!about.is_empty() && !about.ends_with('.'), "{}: `{about}`", command.get_name());
        }
    }
}
