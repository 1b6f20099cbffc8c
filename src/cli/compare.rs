//! `switchboard compare A.json B.json`: two reports beside each other.

use std::path::PathBuf;

use clap::Args;

use super::bench::{print, slower_code, width};
use super::failure::Failure;
use crate::load::compare::of_reports;
use crate::load::files;

#[derive(Debug, Args)]
#[command(
    after_help = "Exit code: 0 success; 2 files that can't be compared; 5 if the second one is slower."
)]
pub(super) struct Options {
    /// A report that `bench --json` wrote. With --rounds 8 or more there can be a verdict.
    #[arg(value_name = "A.json")]
    a: PathBuf,

    /// The report to compare it with.
    #[arg(value_name = "B.json")]
    b: PathBuf,
}

pub(super) fn run(options: &Options) -> Result<u8, Failure> {
    let a = files::read(&options.a).map_err(Failure::Usage)?;
    let b = files::read(&options.b).map_err(Failure::Usage)?;
    let comparison = of_reports(&a, &b);
    print(&comparison.render(width()))?;
    Ok(slower_code(&comparison))
}
