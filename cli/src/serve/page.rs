//! Compares `docs/CONFIGURATION.md` with the flags, which are described once, in `args`.

use clap::{Arg, Args as _, Command};

use super::Settings;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/CONFIGURATION.md");
const BEGIN: &str = "<!-- flags: made from the command line's own description; a test compares -->\n";
const END: &str = "<!-- /flags -->";

/// `EVENTODB_BLESS=1 cargo test -p eventodb configuration_page` updates the page.
#[test]
fn the_configuration_page_lists_every_flag() {
    let page = std::fs::read_to_string(PAGE).expect("the page is in the repository");
    let (before, rest) = page.split_once(BEGIN).expect("the page has the mark");
    let (table, after) = rest.split_once(END).expect("the page has the mark");
    let expected = table_of_flags();
    if std::env::var_os("EVENTODB_BLESS").is_some() {
        std::fs::write(PAGE, format!("{before}{BEGIN}{expected}{END}{after}")).expect("the page can be written");
    } else {
        assert_eq!(table, expected, "run it again with EVENTODB_BLESS=1");
    }
}

fn table_of_flags() -> String {
    let command = Settings::augment_args(Command::new("serve"));
    let mut heading = None;
    let mut page = String::new();
    for flag in command.get_arguments() {
        let next = flag.get_help_heading().unwrap_or("General");
        if heading != Some(next) {
            page += &format!("\n### {next}\n\n| flag | variable | default | what it does |\n|---|---|---|---|\n");
            heading = Some(next);
        }
        page += &row(flag);
    }
    page + "\n"
}

fn row(flag: &Arg) -> String {
    let name = flag.get_long().expect("every flag has a long name");
    let variable = flag.get_env().map(|name| format!("`{}`", name.to_string_lossy())).unwrap_or_default();
    let default = flag.get_default_values().first().map(|value| format!("`{}`", value.to_string_lossy()));
    let help = flag.get_help().map(ToString::to_string).unwrap_or_default().replace('|', "\\|");
    format!("| `--{name}` | {variable} | {} | {help} |\n", default.unwrap_or_default())
}
