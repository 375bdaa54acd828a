//! What verbs print: a table or text for people, JSON or YAML for programs.

use std::io::Write as _;

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

/// A form of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Table,
    Json,
    Yaml,
}

/// Prints in a form for programs; whether it was one.
pub(super) fn structured<T: Serialize>(format: Format, value: &T) -> anyhow::Result<bool> {
    let text = rendered(format, value)?;
    text.as_deref().map(line).transpose()?;
    Ok(text.is_some())
}

/// A value in a form for programs; none: the form is people's.
pub(super) fn rendered<T: Serialize>(format: Format, value: &T) -> anyhow::Result<Option<String>> {
    Ok(match format {
        Format::Table => None,
        Format::Json => Some(serde_json::to_string_pretty(value)?),
        Format::Yaml => Some(serde_yaml::to_string(value)?.trim_end().to_owned()),
    })
}

/// Prints a line. A reader that has gone, as after `| head`, ends the program without a word.
pub(super) fn line(text: &str) -> anyhow::Result<()> {
    match written(text) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => Ok(other?),
    }
}

/// Prints a line. A reader that has gone is an error as any other.
pub(super) fn written(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush())
}

/// A table with these columns.
pub(super) fn table(columns: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.iter().map(|column| column.to_uppercase()));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// An error that is in how the command was called; it ends with the exit code for wrong usage.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Misused(pub(super) String);

/// Says on the terminal what is worth knowing and changes nothing.
pub(super) fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "note: {text}");
}

/// Says on the terminal why a verb failed.
pub(super) fn fail(error: &anyhow::Error) {
    let mut text = error.to_string();
    if !text.starts_with("error: ") {
        text.insert_str(0, "error: ");
    }
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        // Some libraries repeat their cause in their own words.
        if !text.contains(&cause) {
            text.push_str(&format!(": {cause}"));
        }
    }
    let _ = writeln!(std::io::stderr(), "{text}");
}
