//! The commands: `serve`, `pub`, `sub`, `topic`, `group`, `exchange`, `webhook`, `scheduled`, `bench` and
//! `completions`.
//!
//! Data goes to standard output as NDJSON, everything else to standard error. Exit code 0 is success,
//! 1 failure, 2 wrong usage; a reader that goes away (`| head`) is success.

mod address;
mod api;
mod bench;
mod exchange;
mod group;
mod input;
mod json_array;
mod output;
mod publish;
mod scheduled;
mod subscribe;
mod table;
mod topic;
mod webhook;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use callboard::config::{ServeArgs, ServeConfig};
use clap::{CommandFactory as _, Parser, Subcommand};

/// Why a command ends without success.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something went wrong; the text says what to do.
    Failed(String),
    /// It was asked in a way that cannot work.
    Usage(String),
    /// What went wrong was said already.
    Reported,
    /// Whoever read our output went away.
    ReaderGone,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ReaderGone,
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl From<callboard_load::Failure> for Failure {
    fn from(failure: callboard_load::Failure) -> Self {
        Self::Failed(failure.to_string())
    }
}

impl Failure {
    /// A failure with a sentence for a person.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self::Failed(text.into())
    }

    fn exit_code(self) -> ExitCode {
        match self {
            Self::Failed(text) => {
                complain(&text);
                ExitCode::FAILURE
            }
            Self::Usage(text) => {
                complain(&text);
                ExitCode::from(2)
            }
            Self::Reported => ExitCode::FAILURE,
            Self::ReaderGone => ExitCode::SUCCESS,
        }
    }
}

/// Writes a sentence to standard error.
pub(crate) fn complain(text: &str) {
    // Without standard error there is nobody to tell.
    let _ = writeln!(io::stderr(), "callboard: {text}");
}

const SERVE_EXAMPLES: &str = "\
Examples:
  callboard                                   listen on 127.0.0.1:8080, keep records in ./callboard-data
  callboard serve --demo                      the same with live traffic to look at
  callboard serve --listen 0.0.0.0:8080 --allow-origin https://shop.example
  CALLBOARD_STORE=memory callboard serve      keep nothing on disk";

/// A message broker that a browser can speak to.
#[derive(Parser)]
#[command(version, about, after_help = SERVE_EXAMPLES, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    serve: ServeArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the broker (also what `callboard` alone does)
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(ServeArgs),
    /// Publish records from arguments, files or standard input
    #[command(name = "pub", after_help = publish::EXAMPLES)]
    Publish(publish::PublishArgs),
    /// Print the records of a topic, or of all topics that match a pattern
    #[command(name = "sub", after_help = subscribe::EXAMPLES)]
    Subscribe(subscribe::SubscribeArgs),
    /// List, create, describe, configure and delete topics
    #[command(after_help = topic::EXAMPLES)]
    Topic(topic::TopicArgs),
    /// List, describe, seek, redrive and delete the groups of a topic
    #[command(after_help = group::EXAMPLES)]
    Group(group::GroupArgs),
    /// List, create, bind, describe, ask and delete exchanges
    #[command(after_help = exchange::EXAMPLES)]
    Exchange(exchange::ExchangeArgs),
    /// List, create, describe, enable, disable and delete webhooks
    #[command(after_help = webhook::EXAMPLES)]
    Webhook(webhook::WebhookArgs),
    /// List and cancel records that are to be delivered later
    #[command(after_help = scheduled::EXAMPLES)]
    Scheduled(scheduled::ScheduledArgs),
    /// Measure a broker, also against a bare server that has no broker in it
    #[command(after_help = bench::EXAMPLES)]
    Bench(bench::BenchArgs),
    /// Print the completion script of a shell
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  callboard completions bash > /etc/bash_completion.d/callboard
  callboard completions zsh > ~/.zfunc/_callboard
  callboard completions fish > ~/.config/fish/completions/callboard.fish";

/// Does what the command line asks.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        None => return serve(cli.serve),
        Some(Command::Serve(args)) => return serve(args),
        Some(Command::Publish(args)) => runtime().and_then(|runtime| runtime.block_on(publish::run(args))),
        Some(Command::Subscribe(args)) => {
            runtime().and_then(|runtime| runtime.block_on(subscribe::run(args)))
        }
        Some(Command::Topic(args)) => topic::run(&args),
        Some(Command::Group(args)) => group::run(&args),
        Some(Command::Exchange(args)) => exchange::run(&args),
        Some(Command::Webhook(args)) => webhook::run(&args),
        Some(Command::Scheduled(args)) => scheduled::run(&args),
        Some(Command::Bench(args)) => bench::run(args),
        Some(Command::Completions { shell }) => completions(shell),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.exit_code(),
    }
}

fn serve(args: ServeArgs) -> ExitCode {
    match ServeConfig::resolve(args) {
        Ok(config) => callboard::serve::run(config),
        Err(error) => Failure::Usage(error.to_string()).exit_code(),
    }
}

/// Two threads: one may wait for a slow disk or pipe while the other keeps the connection alive.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    Ok(runtime)
}

fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    // Written at once, because the generator itself panics when its reader goes away.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "callboard", &mut script);
    io::stdout().write_all(&script)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_well_formed_and_every_command_has_examples() {
        let mut command = Cli::command();
        command.build();
        command.clone().debug_assert();
        for sub in command
            .get_subcommands()
            .filter(|sub| sub.get_name() != "help" && !sub.is_hide_set())
        {
            let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("callboard"), "{} has no examples", sub.get_name());
        }
    }

    #[test]
    fn plain_callboard_takes_the_options_of_serve() {
        let cli = Cli::try_parse_from([
            "callboard",
            "--listen",
            "127.0.0.1:1",
            "--allow-origin",
            "http://a,http://b",
        ]);
        let Ok(Cli { serve, command: None }) = cli else {
            panic!("not taken")
        };
        assert_eq!(serve.listen.as_deref(), Some("127.0.0.1:1"));
        assert_eq!(serve.allow_origin.map(|origins| origins.len()), Some(2));
    }

    #[test]
    fn options_of_serve_before_another_command_are_refused() {
        assert!(Cli::try_parse_from(["callboard", "--demo", "sub", "--topic", "t"]).is_err());
    }
}
