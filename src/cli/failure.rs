//! What a command reports when it fails: one line.

/// Why a command came to nothing, in one line.
pub(super) enum Failure {
    /// The command line asked for what can't be.
    Usage(String),
    /// The world said no.
    Runtime(String),
}

/// What clap says in several lines, without the usage behind it.
pub(super) fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines: Vec<&str> = text
        .lines()
        .map(|line| line.trim().trim_start_matches("error: "))
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        // No option's value begins with the name of another one.
        .filter(|line| !line.is_empty() && !line.starts_with("tip: to pass"))
        .collect();
    // What follows a colon is the list that it announces.
    let line = lines.join("; ").replace(":; ", ": ");
    // As Rust's own parser says it.
    line.replace("invalid digit found in string", "it is no whole number").replace("; tip: ", "; ")
}

/// Writes the one line to standard error.
pub(super) fn complain(problem: &str) {
    // One line, whatever a path or an argument may hold.
    let problem: String = problem
        .chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect();
    crate::logging::write_last_line(&format!("switchboard: {problem}"));
}
