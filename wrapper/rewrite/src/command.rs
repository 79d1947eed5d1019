//! One `ExecStart=` line with the wrapper put in front of each command, and nothing else changed.
//!
//! The wrapper goes between the prefixes and the program; quotes, specifiers, escapes and `$` behind it stay as they
//! were written, because systemd reads them the same way in any argument. What would be read otherwise there is
//! refused. Follows systemd.service(5) "Command lines" and `config_parse_exec()`, `extract_first_word()`.

use rempart_api::path::WRAP;

/// Why a line cannot be rewritten exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// A quote without its end.
    #[error("a quote is not closed")]
    Quote,
    /// A backslash with nothing behind it.
    #[error("the line ends in a backslash")]
    Backslash,
    /// `;` or `@` with nothing behind it.
    #[error("a command is empty")]
    Empty,
    /// A prefix that systemd reads in only some versions, or one given twice.
    #[error("the prefix `{0}` is not supported here")]
    Prefix(char),
    /// systemd would search it.
    #[error("the program must be given by its absolute path")]
    Relative,
    /// systemd would not expand it as program, but would as argument.
    #[error("there is a `$` in the program's path")]
    Variable,
    /// The name behind `@` would be expanded, or taken as separator.
    #[error("the name behind `@` contains a variable or is a separator")]
    Name,
    /// A control character, which a unit file cannot carry over.
    #[error("there is a control character")]
    Control,
}

/// Rewrites the value of one `ExecStart=`.
///
/// # Errors
/// [`CommandError`] for whatever is not exactly rewritable.
pub fn rewrite(value: &str) -> Result<String, CommandError> {
    if value.chars().any(|c| c.is_control() && c != '\t') {
        return Err(CommandError::Control);
    }
    let mut out = String::new();
    let mut rest = value.trim_start_matches(BLANK);
    while !rest.is_empty() {
        let (first, behind) = word(rest)?;
        let (prefixes, named, program) = split_prefixes(first)?;
        out.push_str(&prefixes);
        out.push_str(WRAP);
        let mut behind = behind;
        if named {
            let (name, after) = word(behind)?;
            if name.is_empty() || is_separator(name) || name.contains('$') {
                return Err(CommandError::Name);
            }
            out.push_str(" --argv0 ");
            out.push_str(name);
            behind = after;
        }
        out.push_str(" -- ");
        out.push_str(program);
        // The arguments, up to and including an unquoted `;` that starts a new command.
        rest = behind;
        loop {
            let (argument, after) = word(rest)?;
            if argument.is_empty() {
                rest = after;
                break;
            }
            out.push(' ');
            out.push_str(argument);
            rest = after;
            if argument == ";" {
                if rest.is_empty() {
                    return Err(CommandError::Empty);
                }
                out.push(' ');
                break;
            }
        }
    }
    if out.is_empty() {
        Err(CommandError::Empty)
    } else {
        Ok(out)
    }
}

const BLANK: [char; 2] = [' ', '\t'];

fn is_separator(word: &str) -> bool {
    word == ";" || word == "\\;"
}

/// The prefixes without `@`, whether `@` was there, and the program's word as written.
fn split_prefixes(first: &str) -> Result<(String, bool, &str), CommandError> {
    let mut prefixes = String::new();
    let mut named = false;
    let mut rest = first;
    while let Some(c) = rest.chars().next().filter(|c| "-@:+!|".contains(*c)) {
        let exclamation_twice = c == '!' && prefixes.matches('!').count() == 1;
        if c == '|' || (c == '@' && named) || (prefixes.contains(c) && !exclamation_twice) {
            return Err(CommandError::Prefix(c));
        }
        if (c == '+' && prefixes.contains('!')) || (c == '!' && prefixes.contains('+')) {
            return Err(CommandError::Prefix(c));
        }
        if c == '@' {
            named = true;
        } else {
            prefixes.push(c);
        }
        rest = &rest[1..];
    }
    if rest.is_empty() || is_separator(rest) {
        return Err(CommandError::Empty);
    }
    if rest.contains('$') {
        return Err(CommandError::Variable);
    }
    // A specifier may expand to an absolute path; the wrapper refuses at run time if it does not.
    match rest.trim_start_matches(['"', '\'']).chars().next() {
        Some('/' | '%') => Ok((prefixes, named, rest)),
        _ => Err(CommandError::Relative),
    }
}

/// The first word as written (quotes and escapes included), and what stands behind it and its blanks.
fn word(text: &str) -> Result<(&str, &str), CommandError> {
    let text = text.trim_start_matches(BLANK);
    let mut quote = None;
    let mut characters = text.char_indices();
    let mut end = text.len();
    while let Some((at, c)) = characters.next() {
        match (c, quote) {
            ('\\', _) => {
                characters.next().ok_or(CommandError::Backslash)?;
            }
            (c, Some(open)) if c == open => quote = None,
            (_, Some(_)) => {}
            ('"' | '\'', None) => quote = Some(c),
            (' ' | '\t', None) => {
                end = at;
                break;
            }
            _ => {}
        }
    }
    match quote {
        Some(_) => Err(CommandError::Quote),
        None => Ok((&text[..end], text[end..].trim_start_matches(BLANK))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const W: &str = "/usr/lib/rempart/rempart-wrap";

    #[test]
    fn the_wrapper_goes_between_prefixes_and_program() {
        for (line, wanted) in [
            ("/bin/a", "W -- /bin/a"),
            ("-/bin/a b", "-W -- /bin/a b"),
            ("-:!!/bin/a b", "-:!!W -- /bin/a b"),
            ("+/bin/a", "+W -- /bin/a"),
            ("@/bin/a name b", "W --argv0 name -- /bin/a b"),
            ("-@:/bin/a \"my name\" b", "-:W --argv0 \"my name\" -- /bin/a b"),
            (
                "\"/bin/my prog\" 'x  y' \"z\\\"\"",
                "W -- \"/bin/my prog\" 'x  y' \"z\\\"\"",
            ),
            ("-\"/bin/my prog\"", "-W -- \"/bin/my prog\""),
            (
                "/bin/a $B ${C} %i %% $$ \\x20 ;x",
                "W -- /bin/a $B ${C} %i %% $$ \\x20 ;x",
            ),
            ("%h/bin/a -- --argv0 x", "W -- %h/bin/a -- --argv0 x"),
            ("/bin/a b ; /bin/c d", "W -- /bin/a b ; W -- /bin/c d"),
            ("/bin/a ; -@/bin/c n", "W -- /bin/a ; -W --argv0 n -- /bin/c"),
            ("/bin/a \\; b", "W -- /bin/a \\; b"),
            ("/bin/a \";\" b", "W -- /bin/a \";\" b"),
            ("/bin/a é  è", "W -- /bin/a é è"),
        ] {
            assert_eq!(rewrite(line).expect(line), wanted.replace('W', W), "{line}");
        }
    }

    #[test]
    fn what_would_be_read_otherwise_is_refused() {
        for (line, why) in [
            ("", CommandError::Empty),
            ("-", CommandError::Empty),
            ("/bin/a ;", CommandError::Empty),
            ("; /bin/a", CommandError::Empty),
            ("a b", CommandError::Relative),
            ("\"-/bin/a\"", CommandError::Relative),
            ("\\x2d/bin/a", CommandError::Relative),
            ("/bin/$A b", CommandError::Variable),
            ("/bin/${A}", CommandError::Variable),
            ("$A", CommandError::Variable),
            ("@/bin/a", CommandError::Name),
            ("@/bin/a $N", CommandError::Name),
            ("@/bin/a ; /bin/b", CommandError::Name),
            ("|/bin/a", CommandError::Prefix('|')),
            ("--/bin/a", CommandError::Prefix('-')),
            ("+!/bin/a", CommandError::Prefix('!')),
            ("!!!/bin/a", CommandError::Prefix('!')),
            ("/bin/a 'b", CommandError::Quote),
            ("/bin/a b\\", CommandError::Backslash),
            ("/bin/a \u{1b}", CommandError::Control),
        ] {
            assert_eq!(rewrite(line), Err(why), "{line}");
        }
    }
}
