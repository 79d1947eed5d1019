//! The line syntax of unit files, joined and split exactly as systemd's `config_parse()` does it.
//!
//! Must never be more generous than systemd where that could hide a setting from us: odd line ends and broken
//! section headers are errors here, although systemd skips or cuts the file there. Follows systemd.syntax(7).

/// What can stand in a unit file, with the number of its first line (1-based).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry<'a> {
    /// `[NAME]`
    Section {
        /// Line of the header.
        line: usize,
        /// Name between the brackets, verbatim.
        name: std::borrow::Cow<'a, str>,
    },
    /// `KEY=VALUE` inside the section that came before.
    Assignment(Assignment),
    /// A line without `=` or without a key: systemd ignores it with a warning.
    Other {
        /// Its line.
        line: usize,
    },
}

/// One `KEY=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// First line of it.
    pub line: usize,
    /// The section it stands in.
    pub section: String,
    /// Left of the first `=`, trimmed.
    pub key: String,
    /// Right of it, trimmed, with continuation lines joined by the blank that systemd puts there; else verbatim.
    pub value: String,
}

/// Why a text is not a unit file that can be read in only one way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxError {
    /// A carriage return or NUL: systemd takes them as line ends, other readers do not. A byte order mark within: systemd passes over the first one of a file
    /// wherever it begins a line.
    #[error("a carriage return, a NUL byte or a byte order mark is in the line")]
    LineEnd {
        /// The line.
        line: usize,
    },
    /// `[` without `]`, or nothing between them: systemd drops the rest of the file.
    #[error("the section header is malformed")]
    Header {
        /// The line.
        line: usize,
    },
    /// An assignment before any section.
    #[error("there is a setting outside of any section")]
    Outside {
        /// The line.
        line: usize,
    },
    /// `.include`, which old systemd followed.
    #[error("`.include` is not supported")]
    Include {
        /// The line.
        line: usize,
    },
    /// The text ends inside a continued line.
    #[error("the last line ends in a backslash")]
    Continued {
        /// The line.
        line: usize,
    },
}

impl SyntaxError {
    /// Where it is.
    pub fn line(&self) -> usize {
        match self {
            Self::LineEnd { line }
            | Self::Header { line }
            | Self::Outside { line }
            | Self::Include { line }
            | Self::Continued { line } => *line,
        }
    }
}

const WHITESPACE: [char; 4] = [' ', '\t', '\n', '\r'];

/// Everything in `text`, in order.
///
/// # Errors
/// The first line that two readers could understand differently.
pub fn entries(text: &str) -> Result<Vec<Entry<'static>>, SyntaxError> {
    let mut found = Vec::new();
    let mut section: Option<String> = None;
    for (line, logical) in logical_lines(text)? {
        let logical = logical.trim_matches(WHITESPACE);
        if logical.is_empty() {
            continue;
        }
        if let Some(rest) = logical.strip_prefix('[') {
            let name = rest
                .strip_suffix(']')
                .filter(|n| !n.is_empty() && !n.chars().any(char::is_control));
            let name = name.ok_or(SyntaxError::Header { line })?.to_owned();
            section = Some(name.clone());
            found.push(Entry::Section {
                line,
                name: name.into(),
            });
        } else if logical.starts_with(".include") {
            return Err(SyntaxError::Include { line });
        } else {
            match logical.split_once('=') {
                Some((key, value)) if !key.is_empty() => found.push(Entry::Assignment(Assignment {
                    line,
                    section: section.clone().ok_or(SyntaxError::Outside { line })?,
                    key: key.trim_matches(WHITESPACE).to_owned(),
                    value: value.trim_matches(WHITESPACE).to_owned(),
                })),
                _ => found.push(Entry::Other { line }),
            }
        }
    }
    Ok(found)
}

/// Physical lines joined over trailing backslashes; comment lines vanish, also inside a continuation.
fn logical_lines(text: &str) -> Result<Vec<(usize, String)>, SyntaxError> {
    let mut lines = Vec::new();
    let mut open: Option<(usize, String)> = None;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, physical) in text.split('\n').enumerate() {
        let line = index + 1;
        if physical.contains(['\r', '\0', '\u{feff}']) {
            return Err(SyntaxError::LineEnd { line });
        }
        let content = physical.trim_start_matches(WHITESPACE);
        if content.starts_with(['#', ';']) {
            continue;
        }
        let (first, mut joined) = open.take().unwrap_or((line, String::new()));
        joined.push_str(content);
        if ends_escaped(&joined) {
            joined.pop();
            joined.push(' ');
            open = Some((first, joined));
        } else {
            lines.push((first, joined));
        }
    }
    match open {
        Some((line, _)) => Err(SyntaxError::Continued { line }),
        None => Ok(lines),
    }
}

/// Whether the last character is a backslash that no other backslash escapes.
fn ends_escaped(text: &str) -> bool {
    text.bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<(usize, String, String)> {
        entries(text)
            .expect("well-formed")
            .into_iter()
            .filter_map(|e| match e {
                Entry::Assignment(a) => Some((a.line, a.key, a.value)),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn continuations_are_joined_by_a_blank_and_comments_between_vanish() {
        let text = "[Service]\nExecStart=/bin/a \\\n  # not me\n  b \\\n; nor me\n\tc\nUser=x\n";
        assert_eq!(
            values(text),
            [
                (2, "ExecStart".into(), "/bin/a  b  c".into()),
                (7, "User".into(), "x".into())
            ]
        );
    }

    #[test]
    fn an_escaped_backslash_does_not_continue() {
        assert_eq!(values("[S]\nA=b\\\\\nC=d\n").len(), 2);
    }

    #[test]
    fn a_backslash_before_trailing_blanks_does_not_continue_but_stays() {
        assert_eq!(values("[S]\nA=b\\ \nC=d\n")[0].2, "b\\");
    }

    #[test]
    fn the_byte_order_mark_and_blanks_around_are_skipped() {
        assert_eq!(
            values("\u{feff}  [S]  \n  A = b = c  \n"),
            [(2, "A".into(), "b = c".into())]
        );
    }

    #[test]
    fn what_readers_disagree_on_is_refused_with_its_line() {
        for (text, line) in [
            ("[S]\nA=b\r\n", 2),
            ("[S]\nA=\0b\n", 2),
            ("[S\nA=b\n", 1),
            ("[]\n", 1),
            ("A=b\n", 1),
            ("[S]\n.include /etc/x\n", 2),
            ("[S]\nA=b\\", 2),
        ] {
            assert_eq!(entries(text).expect_err(text).line(), line, "{text:?}");
        }
    }
}
