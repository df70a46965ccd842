//! The overview that `cvmfs-prefetch --help` prints: the commands by the role of the person who uses them.

use std::fmt::Write;

use clap::Command;
use clap::builder::StyledStr;

/// The roles, and the commands that each needs.
const ROLES: [(&str, &[&str]); 2] = [
    ("Image maintainer (build node)", &["record", "watch", "trace", "bundle"]),
    ("Node operator (worker node)", &["prefetch", "status", "cancel", "priority", "store"]),
];

/// `command` with its subcommands listed by role, which clap cannot do itself.
pub(crate) fn with_roles(command: Command) -> Command {
    let template = template(&command);
    command.help_template(template)
}

fn template(command: &Command) -> StyledStr {
    let styles = command.get_styles().clone();
    let (header, literal) = (styles.get_header(), styles.get_literal());
    let mut text = StyledStr::new();
    let mut write = |part: std::fmt::Arguments<'_>| text.write_fmt(part).unwrap_or_default();
    write(format_args!("{{about-with-newline}}\n{{usage-heading}} {{usage}}\n"));
    for (role, names) in ROLES {
        write(format_args!("\n{header}{role}:{header:#}\n"));
        for name in names {
            let about = command.find_subcommand(name).and_then(Command::get_about).map(ToString::to_string);
            write(format_args!("  {literal}{name:<9}{literal:#} {}\n", about.unwrap_or_default()));
        }
    }
    write(format_args!("\n{header}Help:{header:#}\n  {literal}help{literal:#}      Print the help of a command\n"));
    write(format_args!("\n{header}Options:{header:#}\n{{options}}{{after-help}}"));
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_command_belongs_to_one_role() {
        let command = crate::command();
        let defined: BTreeSet<_> =
            command.get_subcommands().map(Command::get_name).filter(|name| *name != "help").collect();
        let listed: Vec<_> = ROLES.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        assert_eq!(listed.len(), defined.len());
        assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), defined);
    }

    #[test]
    fn the_overview_shows_roles_and_short_texts() {
        let help = crate::command().render_help().to_string();
        for text in
            ["Image maintainer (build node):\n  record ", "Node operator (worker node):\n  prefetch ", "--verbose"]
        {
            assert!(help.contains(text), "{text:?} is not in\n{help}");
        }
    }
}
