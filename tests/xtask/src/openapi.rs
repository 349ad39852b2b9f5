//! The committed description of the API.

use anyhow::{Context, Result, bail};

use crate::shell;

/// Writes docs/openapi.json, or compares it with what the code describes.
pub(crate) fn run(check: bool) -> Result<()> {
    let path = shell::root().join("docs/openapi.json");
    let described =
        shell::output(&mut shell::cargo(&["run", "--quiet", "--package", "chancery", "--", "openapi"]))?;
    let described = String::from_utf8(described).context("the description is not UTF-8")?;
    let described = format!("{}\n", described.trim_end());
    if !check {
        std::fs::write(&path, &described).with_context(|| format!("could not write {}", path.display()))?;
        eprintln!("wrote docs/openapi.json ({} lines)", described.lines().count());
        return Ok(());
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    if let Some((line, committed, described)) = first_difference(&committed, &described) {
        bail!(
            "docs/openapi.json is not what the code describes; the first difference is in line {line}:\n  \
             committed: {committed}\n  described: {described}\nrun `cargo xtask openapi` and look at the diff"
        );
    }
    Ok(())
}

/// The first line that differs, counted from 1, and its two texts.
fn first_difference<'a>(left: &'a str, right: &'a str) -> Option<(usize, &'a str, &'a str)> {
    let mut pairs = (left.lines(), right.lines());
    for number in 1.. {
        match (pairs.0.next(), pairs.1.next()) {
            (None, None) => break,
            (left, right) if left == right => {}
            (left, right) => return Some((number, left.unwrap_or("(end)"), right.unwrap_or("(end)"))),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_found() {
        assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(first_difference("a\nb\n", "a\nc\n"), Some((2, "b", "c")));
        assert_eq!(first_difference("", "a\n"), Some((1, "(end)", "a")));
    }
}
