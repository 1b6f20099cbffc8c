//! The command line: one file per command, and what they share.
//!
//! Exit codes: 0 after a clean stop, 1 for a failure at run time, 2 for a wrong command line; `bench` has more of them. A failure is one
//! line on standard error that names the thing and what to do about it.

mod audience;
#[cfg(feature = "load")]
mod bench;
mod check;
#[cfg(feature = "load")]
mod compare;
mod config;
mod failure;
mod options;
#[cfg(feature = "load")]
mod panel;
mod serve;
mod settings;
mod units;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use failure::{Failure, complain, one_line};

/// A single-threaded event-loop server, and a load generator for any server.
#[derive(Parser)]
#[command(
    name = "switchboard",
    version,
    about,
    disable_help_subcommand = true,
    override_usage = "switchboard [COMMAND] [OPTIONS]"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve clients until SIGINT or SIGTERM. This is what happens without a command, too.
    Serve(options::Options),
    /// Print what serve would run with these options, and run nothing.
    Check(options::Options),
    /// Load a server, and report honestly what it can do.
    #[cfg(feature = "load")]
    Bench(Box<bench::Options>),
    /// Compare two reports of bench.
    #[cfg(feature = "load")]
    Compare(compare::Options),
}

/// Runs the program with these arguments, the first being its name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = with_default_command(arguments.into_iter().collect());
    // The words after the command: some commands read them more than once.
    let words = || arguments[2..].to_vec();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error, &arguments),
    };
    let outcome = match cli.command {
        Command::Serve(_) => with_settings(words(), serve::run),
        Command::Check(_) => with_settings(words(), check::run),
        #[cfg(feature = "load")]
        Command::Bench(options) => bench::run(*options),
        #[cfg(feature = "load")]
        Command::Compare(options) => compare::run(&options),
    };
    // The log's last words, unless nobody reads them.
    crate::logging::flush(Duration::from_millis(500));
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(Failure::Runtime(problem)) => {
            complain(&problem);
            ExitCode::from(1)
        }
        Err(Failure::Usage(problem)) => {
            complain(&problem);
            ExitCode::from(2)
        }
    }
}

fn with_settings(
    words: Vec<OsString>,
    run: impl FnOnce(&config::CommandLine) -> Result<(), Failure>,
) -> Result<u8, Failure> {
    let line = config::CommandLine::new(&options::command(), words);
    run(&line.map_err(|error| Failure::Usage(one_line(&error)))?).map(|()| 0)
}

/// `switchboard --listen ...` is `switchboard serve --listen ...`.
fn with_default_command(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let first = arguments.get(1).and_then(|argument| argument.to_str());
    if first == Some("help") {
        // `switchboard help bench` is `switchboard bench --help`.
        arguments.remove(1);
        arguments.truncate(2);
        arguments.push("--help".into());
        return arguments;
    }
    let about_itself = matches!(first, Some("-h" | "--help" | "-V" | "--version"));
    if first.is_none_or(|first| first.starts_with('-')) && !about_itself {
        if arguments.is_empty() {
            arguments.push("switchboard".into());
        }
        arguments.insert(1, "serve".into());
    }
    arguments
}

/// Help is printed as it is; an error is brought to one line.
fn refuse(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let _ = error.print(); // standard output is closed: then nobody wants the help
        return ExitCode::SUCCESS;
    }
    let is_command = |name: &&str| matches!(*name, "serve" | "check" | "bench" | "compare");
    let command = arguments.get(1).and_then(|name| name.to_str()).filter(is_command);
    let help = command.map_or("switchboard --help".into(), |name| format!("switchboard {name} --help"));
    let problem = one_line(error);
    let problem = match problem.contains("'--port'") || problem.contains("'-p'") {
        true => format!("{problem}: say where to listen with --listen tcp://127.0.0.1:PORT"),
        false => problem,
    };
    complain(&format!("{problem} (see '{help}')"));
    ExitCode::from(2)
}
