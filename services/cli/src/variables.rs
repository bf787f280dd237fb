//! What is said of variables of the environment that begin like ours and are none: most likely they were mistyped.

use std::io::Write as _;

use crate::args::Verb;

/// Says so on stderr, before the verb; of a program that serves its log says it.
pub(crate) fn warn_of_unknown(verb: &Verb) {
    if matches!(verb, Verb::Up(_) | Verb::Server(_)) {
        return;
    }
    let mut out = std::io::stderr().lock();
    for unknown in keywheel_daemon::env::unknown() {
        // When stderr is gone, nobody is left to be told.
        let _ = writeln!(
            out,
            "warning: {unknown}\n  next: correct its name, or unset it"
        );
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use keywheel_schemas::config::variables::{PREFIX, is_known};

    use crate::args::Cli;

    /// Of a command and all below it.
    fn variables_of(command: &clap::Command) -> Vec<String> {
        let own = command.get_arguments().filter_map(clap::Arg::get_env);
        let mut all: Vec<String> = own
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        all.extend(command.get_subcommands().flat_map(variables_of));
        all
    }

    #[test]
    fn nothing_is_said_of_a_variable_that_a_flag_reads() {
        let mut all = variables_of(&Cli::command());
        all.retain(|name| name.starts_with(PREFIX));
        assert!(all.len() >= 5, "{all:?}");
        for name in all {
            assert!(is_known(&name), "{name}");
        }
    }
}
