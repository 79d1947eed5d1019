//! Command lines of our own programs within code: which program, and what it is told.
//!
//! Reads what people read, not a shell's grammar: a line is cut at pipes and `&&`, and a comment ends it.

/// Our programs, as pages call them.
const PROGRAMS: [(&str, &str); 5] = [
    ("rempart", "rempart"),
    ("rempart-verifier", "rempart-verifier"),
    ("/usr/lib/rempart/rempartd", "rempartd"),
    ("rempartd", "rempartd"),
    ("./x", "./x"),
];

/// One command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// The program's name; `./x` for the repository's own script.
    pub program: &'static str,
    /// What follows it: commands, values, options.
    pub arguments: Vec<String>,
}

/// Those in `code`.
#[must_use]
pub fn invocations(code: &str) -> Vec<Invocation> {
    code.replace("\\\n", " ")
        .lines()
        .flat_map(|line| line.split(['|', ';']).flat_map(|part| part.split("&&")))
        .filter_map(invocation)
        .collect()
}

fn invocation(part: &str) -> Option<Invocation> {
    let mut tokens = part
        .split_whitespace()
        .take_while(|token| !token.starts_with('#') && *token != "→")
        .skip_while(|token| *token == "sudo" || (token.contains('=') && token.starts_with(char::is_uppercase)));
    let first = tokens.next()?;
    let (_, program) = PROGRAMS.into_iter().find(|(name, _)| *name == first)?;
    // Behind a lone `--` another program's line begins.
    let arguments = tokens.take_while(|token| *token != "--");
    let arguments = arguments.map(|token| token.trim_matches(['[', ']', '\'', '"', ',']).to_owned());
    Some(Invocation {
        program,
        arguments: arguments.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_where_another_program_begins() {
        let found = invocations(
            "printf x | sudo rempart seal set app#a --role=web  # a comment --not\nrempart run --role R -- cat --foo\nA=1 ./x test unit && rempart\nrempartx y\n",
        );
        let told: Vec<_> = found
            .iter()
            .map(|found| (found.program, found.arguments.join(" ")))
            .collect();
        let wanted = [
            ("rempart", "seal set app#a --role=web"),
            ("rempart", "run --role R"),
            ("./x", "test unit"),
            ("rempart", ""),
        ];
        assert_eq!(told, wanted.map(|(program, words)| (program, words.to_owned())));
    }
}
