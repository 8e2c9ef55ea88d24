//! What the command line promises to people, each with the tests that hold it.

use std::path::Path;

/// A promise, and its tests: a file below the folder of the crate, and a function.
const PROMISES: &[(&str, &[(&str, &str)])] = &[
    (
        "`status` tells whether a server is up, its version, backend, head and lag, and whether it is degraded",
        &[
            ("tests/commands/status.rs", "a_server_that_is_up_tells_what_it_is_and_how_far_its_groups_are"),
            ("tests/commands/status.rs", "a_server_that_refuses_writes_is_up_and_the_exit_code_says_so"),
            ("tests/commands/status.rs", "a_server_that_is_not_there_is_told_from_one_that_is"),
        ],
    ),
    (
        "`context add|use|list|remove`, in a file of mode 0600",
        &[
            ("tests/commands/contexts.rs", "a_context_names_a_server_and_its_token"),
            ("tests/commands/contexts.rs", "a_flag_and_a_variable_take_precedence_and_get_no_token_of_a_context"),
        ],
    ),
    (
        "a short help first, in groups, and the flags of `serve` behind `serve --help`",
        &[
            ("src/help.rs", "the_short_help_has_no_flags_of_the_server"),
            ("src/help.rs", "each_command_is_in_one_group"),
        ],
    ),
    ("examples in every help", &[("src/help.rs", "each_command_has_examples_that_it_takes")]),
    ("every help fits into 80 columns", &[("src/help.rs", "each_help_fits_into_80_columns")]),
    (
        "`--json` everywhere",
        &[
            ("src/help.rs", "each_command_prints_json"),
            ("tests/commands/files.rs", "what_commands_tell_is_json_for_programs"),
            ("tests/commands/consuming.rs", "a_consumer_tells_programs_what_it_does"),
        ],
    ),
    ("a page of the manual for each command", &[("tests/commands/client.rs", "each_command_has_a_page_of_the_manual")]),
    (
        "colour where a terminal looks, and none with NO_COLOR",
        &[("tests/commands/files.rs", "there_is_colour_on_a_terminal_alone_and_none_if_that_is_wished")],
    ),
    (
        "a hint where a read finds nothing and a near name exists",
        &[("tests/commands/files.rs", "a_read_that_finds_nothing_tells_of_a_name_that_is_near")],
    ),
    (
        "`.gz` in a name means gzip, and no file is overwritten without a word",
        &[("tests/commands/files.rs", "a_name_that_ends_with_gz_means_gzip_and_no_file_is_overwritten")],
    ),
    ("`repair --dry-run`", &[("tests/commands/files.rs", "a_repair_tells_what_it_would_do")]),
];

#[test]
fn each_promise_has_a_test() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (promise, tests) in PROMISES {
        for (file, test) in *tests {
            let text = std::fs::read_to_string(folder.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
            let is_there =
                text.contains(&format!("#[test]\n    fn {test}()")) || text.contains(&format!("#[test]\nfn {test}()"));
            assert!(is_there, "{promise}: there is no test {test} in {file}");
        }
    }
}
