//! The help: commands in groups, and examples for each command.
//!
//! clap describes the flags. What stands here is what a person looks for first. Help, manual pages and completions are
//! made of the same [`dressed`] command line.

use clap::Command;

/// The commands in the order in which the short help shows them.
const GROUPS: &[(&str, &[&str])] = &[
    ("Server", &["serve", "config", "doctor"]),
    (
        "Client",
        &["status", "write", "append", "read", "tail", "consume", "group", "ns", "token", "export", "import", "top"],
    ),
    ("Storage", &["backup", "verify", "repair", "migrate"]),
    ("Tools", &["context", "bench", "completions", "man", "version", "help"]),
];

/// The flags that the help of `doctor` shows. It takes all of `serve`, too.
const OF_DOCTOR: &[&str] = &["json", "config", "db_url", "db_url_file", "data_dir"];

/// What stands before the examples in a help.
pub(crate) const EXAMPLES_HEADING: &str = "Examples:";

/// Most examples in the help of a group of commands.
const EXAMPLES_OF_GROUP: usize = 4;

/// Examples for each command that does something. Each fits into 80 columns.
const EXAMPLES: &[(&str, &[&str])] = &[
    (
        "serve",
        &[
            "eventodb serve --data-dir /var/lib/eventodb",
            "eventodb serve --config /etc/eventodb/eventodb.toml",
            "eventodb serve --db-url-file /etc/eventodb/db-url --host 0.0.0.0",
            "eventodb serve --test-mode",
        ],
    ),
    ("config check", &["eventodb config check --config /etc/eventodb/eventodb.toml"]),
    (
        "config show",
        &["eventodb config show --config eventodb.toml", "eventodb config show --url http://127.0.0.1:8080 --json"],
    ),
    (
        "doctor",
        &[
            "eventodb doctor --data-dir /var/lib/eventodb",
            "eventodb doctor --config /etc/eventodb/eventodb.toml --json",
            "eventodb doctor --db-url-file /etc/eventodb/db-url",
        ],
    ),
    ("status", &["eventodb status", "eventodb status --json", "eventodb status --live"]),
    (
        "write",
        &[
            "eventodb write account-7 Opened '{\"owner\": \"Ada\"}'",
            "eventodb write account-7 Closed --expected-version 3",
            "eventodb write account-7 Noted - < note.json",
        ],
    ),
    ("append", &["eventodb append --input messages.ndjson.gz", "eventodb append --stream log-1 < lines.ndjson"]),
    (
        "read",
        &[
            "eventodb read account-7",
            "eventodb read --category account --since 2026-01-31 --json",
            "eventodb read --backward -n 5",
        ],
    ),
    ("tail", &["eventodb tail", "eventodb tail --category account --type Opened,Closed"]),
    (
        "consume",
        &[
            "eventodb consume mailer --create --category account -- ./send-mail",
            "eventodb consume --name copy --until-caught-up -- tee -a copy.ndjson",
            "eventodb consume mailer --json -- ./send-mail | jq -c 'select(.error)'",
        ],
    ),
    ("group list", &["eventodb group list"]),
    ("group status", &["eventodb group status mailer --watch"]),
    ("group create", &["eventodb group create mailer --category account"]),
    ("group update", &["eventodb group update mailer --session-ms 60000"]),
    (
        "group reset",
        &["eventodb group reset mailer --to 2026-01-31", "eventodb group reset mailer --to beginning --yes"],
    ),
    ("group resize", &["eventodb group resize mailer 32"]),
    ("group pause", &["eventodb group pause mailer"]),
    ("group resume", &["eventodb group resume mailer"]),
    ("group delete", &["eventodb group delete mailer --yes"]),
    ("group parked", &["eventodb group parked mailer"]),
    ("group retry", &["eventodb group retry mailer account-7", "eventodb group retry mailer --all"]),
    ("group skip", &["eventodb group skip mailer account-7 --to 3"]),
    ("group wait", &["eventodb group wait mailer 1200"]),
    ("group audit", &["eventodb group audit mailer --json"]),
    ("ns create", &["eventodb ns create shop --description 'the web shop'"]),
    ("ns delete", &["eventodb ns delete shop --yes"]),
    ("ns list", &["eventodb ns list --json"]),
    ("ns info", &["eventodb ns info shop"]),
    ("ns update", &["eventodb ns update shop --quota-messages 1000000", "eventodb ns update shop --protected true"]),
    ("ns streams", &["eventodb ns streams --prefix account-"]),
    ("ns categories", &["eventodb ns categories"]),
    (
        "token create",
        &[
            "eventodb token create --rights read,write --categories account --url $URL",
            "eventodb token create --rights admin --data-dir /var/lib/eventodb",
        ],
    ),
    ("token list", &["eventodb token list --url http://127.0.0.1:8080"]),
    ("token revoke", &["eventodb token revoke 01890a5d-ac96-774b-bcce-b302099a8057 --url $URL"]),
    (
        "token rotate",
        &["eventodb token rotate --url http://127.0.0.1:8080", "eventodb token rotate default --data-dir ./data"],
    ),
    (
        "export",
        &["eventodb export -o shop.ndjson.gz", "eventodb export --categories account --since 2026-01-31 | jq .type"],
    ),
    ("import", &["eventodb import -i shop.ndjson.gz", "eventodb import -i shop.ndjson.gz --force --yes"]),
    ("top", &["eventodb top", "eventodb top --json"]),
    ("backup", &["eventodb backup --data-dir /var/lib/eventodb -o /backup/monday"]),
    ("verify", &["eventodb verify /backup/monday", "eventodb verify /var/lib/eventodb --json"]),
    (
        "repair",
        &[
            "eventodb repair --data-dir /var/lib/eventodb --dry-run",
            "eventodb repair --data-dir /var/lib/eventodb",
            "eventodb repair --give-up 1234 --namespace shop",
        ],
    ),
    (
        "migrate",
        &[
            "eventodb migrate --check --db-url-file /etc/eventodb/db-url",
            "eventodb migrate --db-url-file /etc/eventodb/db-url",
        ],
    ),
    ("context add", &["eventodb context add prod --url https://db.example --token-file ~/.prod"]),
    ("context use", &["eventodb context use prod", "eventodb context use --none"]),
    ("context list", &["eventodb context list"]),
    ("context remove", &["eventodb context remove prod"]),
    ("bench", &["eventodb bench write --connections 1,16,64", "eventodb bench --backend postgres --json report.json"]),
    ("bench compare", &["eventodb bench compare before.json after.json"]),
    ("bench report", &["eventodb bench report sqlite.json postgres.json"]),
    ("bench noop-server", &["eventodb bench noop-server"]),
    ("completions", &["eventodb completions bash > /etc/bash_completion.d/eventodb"]),
    ("man", &["eventodb man > eventodb.1", "eventodb man --out man1"]),
    ("version", &["eventodb version"]),
];

/// The command line with its help: the root shows commands in groups and none of the flags of `serve`, and each command
/// has its examples.
pub(crate) fn dressed(root: Command) -> Command {
    let groups = groups(&root);
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} eventodb COMMAND [OPTIONS]\n\n{groups}Options:\n{{options}}{{after-help}}"
    );
    let hidden = |flag: clap::Arg| {
        let is_shown = OF_DOCTOR.contains(&flag.get_id().as_str());
        flag.hide(!is_shown)
    };
    with_examples(root, "")
        .mut_subcommand("doctor", |doctor| doctor.mut_args(hidden))
        .mut_args(|flag| flag.hide(true))
        .help_template(template)
}

/// The command's names below the root, without the program's.
pub(crate) fn path_of(parent: &str, command: &Command) -> String {
    format!("{parent} {}", command.get_name()).trim_start().to_owned()
}

/// The commands that a person may call, without clap's own `help`.
pub(crate) fn visible(parent: &Command) -> impl Iterator<Item = &Command> {
    parent.get_subcommands().filter(|command| command.get_name() != "help" && !command.is_hide_set())
}

fn with_examples(command: Command, path: &str) -> Command {
    let command = command.mut_subcommands(|below| {
        let path = path_of(path, &below);
        with_examples(below, &path)
    });
    let lines: String = examples(path).iter().map(|line| format!("\n  {line}")).collect();
    if lines.is_empty() {
        return command;
    }
    let before = command.get_after_help().map_or_else(String::new, |text| format!("{text}\n\n"));
    command.after_help(format!("{before}{EXAMPLES_HEADING}{lines}"))
}

/// The examples of a command. A group of commands has the first one of each of some of them.
fn examples(path: &str) -> Vec<&'static str> {
    if let Some((_, examples)) = EXAMPLES.iter().find(|(of, _)| *of == path) {
        return examples.to_vec();
    }
    let is_below = |of: &str| of.strip_prefix(path).is_some_and(|rest| rest.starts_with(' '));
    let below = EXAMPLES.iter().filter(|(of, _)| is_below(of));
    below.filter_map(|(_, examples)| examples.first().copied()).take(EXAMPLES_OF_GROUP).collect()
}

/// The commands with their first sentences.
fn groups(root: &Command) -> String {
    let line = |name: &&str| {
        let about = root.find_subcommand(name).and_then(Command::get_about).map(ToString::to_string);
        let about = about.unwrap_or_else(|| "Print the help of a command".to_owned());
        format!("  {name:<12} {}\n", about.split(". ").next().unwrap_or_default().trim_end_matches('.'))
    };
    let group =
        |(title, names): &(&str, &[&str])| format!("{title}:\n{}\n", names.iter().map(line).collect::<String>());
    GROUPS.iter().map(group).collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    /// Columns of a terminal.
    const COLUMNS: usize = 80;

    fn root() -> Command {
        let mut root = dressed(crate::Cli::command());
        root.build();
        root
    }

    /// Each command, by its path.
    fn commands(parent: &Command, path: &str) -> Vec<(String, Command)> {
        let mut found = Vec::new();
        for command in visible(parent) {
            let path = path_of(path, command);
            found.push((path.clone(), command.clone()));
            found.extend(commands(command, &path));
        }
        found
    }

    /// Each command that does something, by its path.
    fn leaves(root: &Command) -> Vec<(String, Command)> {
        let mut leaves = commands(root, "");
        leaves.retain(|(_, command)| !command.is_subcommand_required_set());
        leaves
    }

    /// The words of a line as a shell splits them, up to a pipe or a redirection.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
        for c in line.chars() {
            match (quote, c) {
                (Some(open), c) if c == open => quote = None,
                (None, '\'' | '"') => {
                    quote = Some(c);
                    word.get_or_insert_default();
                }
                (None, '|' | '<' | '>') => break,
                (None, ' ') => words.extend(word.take()),
                (_, c) => word.get_or_insert_default().push(c),
            }
        }
        words.extend(word);
        words
    }

    #[test]
    fn each_command_is_in_one_group() {
        let mut grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        grouped.retain(|name| *name != "help");
        grouped.sort_unstable();
        let root = root();
        let mut named: Vec<&str> = visible(&root).map(Command::get_name).collect();
        named.sort_unstable();
        assert_eq!(grouped, named);
    }

    #[test]
    fn each_command_has_examples_that_it_takes() {
        let root = root();
        let leaves = leaves(&root);
        for (path, _) in &leaves {
            let (_, examples) = EXAMPLES.iter().find(|(of, _)| of == path).unwrap_or_else(|| panic!("{path}"));
            for example in *examples {
                let words = words(example);
                assert_eq!(words[0], "eventodb");
                assert!(words[1..].join(" ").starts_with(path), "{example} is an example of {path}");
                let parsed = root.clone().try_get_matches_from(&words);
                assert!(parsed.is_ok(), "{example}: {}", parsed.expect_err("it is refused"));
            }
        }
        for (path, command) in commands(&root, "") {
            let help = command.clone().render_long_help().to_string();
            assert!(help.contains(&format!("{EXAMPLES_HEADING}\n  eventodb {path}")), "{path}: {help}");
        }
        for (path, _) in EXAMPLES {
            assert!(leaves.iter().any(|(of, _)| of == path), "there is no command {path}");
        }
    }

    #[test]
    fn each_help_fits_into_80_columns() {
        let root = root().term_width(COLUMNS);
        let all = std::iter::once((String::new(), root.clone())).chain(commands(&root, ""));
        for (path, command) in all {
            for text in [
                command.clone().term_width(COLUMNS).render_help().to_string(),
                command.clone().term_width(COLUMNS).render_long_help().to_string(),
            ] {
                let wide = text.lines().find(|line| line.chars().count() > COLUMNS);
                assert_eq!(wide, None, "{path}");
            }
        }
    }

    /// What has no `--json`, and why.
    const WITHOUT_JSON: &[(&str, &str)] = &[
        ("serve", "--log-format json makes its lines JSON, among them the one that it is ready"),
        ("bench report", "the reports that it is given are JSON, and it shows them to people"),
        ("bench noop-server", "it serves until it is stopped, and has no result"),
    ];

    #[test]
    fn each_command_prints_json() {
        let root = root();
        let takes_json =
            |command: &Command| command.get_arguments().any(|argument| argument.get_long() == Some("json"));
        let without = leaves(&root).into_iter().filter(|(_, command)| !takes_json(command)).map(|(path, _)| path);
        let known: Vec<&str> = WITHOUT_JSON.iter().map(|(path, _)| *path).collect();
        assert_eq!(without.collect::<Vec<_>>(), known);
    }

    #[test]
    fn the_short_help_has_no_flags_of_the_server() {
        let help = root().render_long_help().to_string();
        assert!(!help.contains("--data-dir") && help.contains("serve --help"), "{help}");
        assert!(help.lines().count() <= 60, "{help}");
    }
}
