//! What a page has a reader do: sections of steps, each a block of commands with the machine that it is for and what is then seen.
//!
//! `sh` is for the node, `sh owner` for the owner's machine; `text` behind one is what it puts out, where `…` stands for anything.

use crate::{Code, Page};

/// Commands that build on one another.
#[derive(Debug, PartialEq, Eq)]
pub struct Section {
    /// As the page counts them: `first`, `second`, …
    pub name: String,
    /// In their order.
    pub steps: Vec<Step>,
}

/// One block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Where it begins in the page.
    pub line: usize,
    /// The owner's machine, not the node.
    pub owner: bool,
    /// As it stands there.
    pub commands: String,
    /// Lines that come in this order; empty: nothing is said of its output.
    pub seen: Vec<String>,
}

/// What begins a new section: the first step of the page, and each that the page tells to begin with nothing.
const FRESH: &str = "fresh";

impl Section {
    /// Those of `page`.
    #[must_use]
    pub fn of(page: &Page) -> Vec<Self> {
        let mut sections: Vec<Self> = Vec::new();
        for Code { line, info, text } in &page.blocks {
            let words: Vec<&str> = info.split_whitespace().collect();
            match words.as_slice() {
                ["sh", rest @ ..] => {
                    if sections.is_empty() || rest.contains(&FRESH) {
                        let name = format!("part-{}", sections.len() + 1);
                        sections.push(Self {
                            name,
                            steps: Vec::new(),
                        });
                    }
                    let step = Step {
                        line: *line,
                        owner: rest.contains(&"owner"),
                        commands: text.clone(),
                        seen: Vec::new(),
                    };
                    if let Some(section) = sections.last_mut() {
                        section.steps.push(step);
                    }
                }
                ["text"] => {
                    let last = sections.last_mut().and_then(|section| section.steps.last_mut());
                    if let Some(step) = last {
                        step.seen = text.lines().map(str::to_owned).collect();
                    }
                }
                _ => {}
            }
        }
        sections
    }
}

/// The first of the lines `wanted` that `output` does not have in its turn.
#[must_use]
pub fn missing<'a>(wanted: &'a [String], output: &str) -> Option<&'a str> {
    let mut lines = output.lines();
    wanted
        .iter()
        .find(|want| !lines.any(|line| matches(want, line)))
        .map(String::as_str)
}

/// Whether `line` is `pattern`, in which `…` stands for anything.
fn matches(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.trim_end().split('…');
    let Some(mut rest) = parts.next().and_then(|first| line.trim_end().strip_prefix(first)) else {
        return false;
    };
    let mut open = false;
    for part in parts {
        open = true;
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.is_empty() || (open && pattern.trim_end().ends_with('…'))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn steps_are_told_apart_by_machine_and_section() {
        let text =
            "```sh fresh\na\n```\n```text\n1\n2\n```\n```ini\nb\n```\n```sh owner fresh\nc\n```\n```sh\nd\n```\n";
        let sections = Section::of(&Page::parse(Path::new("a.md"), text));
        let told: Vec<_> = sections
            .iter()
            .flat_map(|section| section.steps.iter().map(|step| (section.name.as_str(), step)))
            .map(|(name, step)| (name, step.owner, step.commands.as_str(), step.seen.len()))
            .collect();
        assert_eq!(
            told,
            [
                ("part-1", false, "a\n", 2),
                ("part-2", true, "c\n", 0),
                ("part-2", false, "d\n", 0)
            ]
        );
    }

    #[test]
    fn a_line_that_does_not_come_in_its_turn_is_missing() {
        let wanted: Vec<String> = ["one", "t…o", "…three…"].map(str::to_owned).into();
        assert_eq!(missing(&wanted, "zero\none\ntwo\nand three times\n"), None);
        assert_eq!(missing(&wanted, "one\nand three times\ntwo\n"), Some("…three…"));
        assert_eq!(missing(&wanted, "one more\ntwo\nthree\n"), Some("one"));
        assert_eq!(missing(&wanted, "one\ntwo more\nthree\n"), Some("t…o"));
        assert_eq!(missing(&wanted, ""), Some("one"));
    }
}
