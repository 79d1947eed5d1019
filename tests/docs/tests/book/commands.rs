//! Every command line of ours that a page shows is one that the program takes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
};

use rempart_docs::{Invocation, invocations};
use rempart_harness::{program, repository};

use crate::{none, pages};

/// What a program says of itself under `--help`.
#[derive(Default)]
struct Help {
    commands: BTreeSet<String>,
    /// Whether a value follows.
    options: BTreeMap<String, bool>,
}

/// Asks each program once for each of its commands.
#[derive(Default)]
struct Programs {
    known: BTreeMap<String, Help>,
}

impl Programs {
    fn help(&mut self, name: &str, commands: &[String]) -> &Help {
        let key = format!("{name} {}", commands.join(" "));
        self.known.entry(key).or_insert_with(|| {
            let mut asked = Command::new(program(name).expect("built by ./x build"));
            let output = asked.args(commands).arg("--help").output().expect("it runs");
            assert!(output.status.success(), "{name} {commands:?} --help");
            read(&String::from_utf8(output.stdout).expect("text"))
        })
    }

    /// Why `shown` cannot be, if so.
    fn judge(&mut self, shown: &Invocation) -> Option<String> {
        let Invocation { program, arguments } = shown;
        let (mut commands, mut values) = (Vec::new(), false);
        let mut rest = arguments.iter();
        while let Some(word) = rest.next() {
            let help = self.help(program, &commands);
            if let Some(option) = word.strip_prefix("--") {
                let name = option.split('=').next().unwrap_or_default();
                match help.options.get(name) {
                    None => return Some(format!("{program} {} has no option --{name}", commands.join(" "))),
                    Some(true) if !option.contains('=') => drop(rest.next()),
                    Some(_) => {}
                }
            } else if !values && help.commands.contains(word) {
                commands.push(word.clone());
            } else if help.commands.is_empty() || values || !is_command(word) || commands.as_slice() == ["attest"] {
                // `attest` alone does something by itself and has commands too.
                values = true;
            } else {
                return Some(format!("{program} {} has no command {word}", commands.join(" ")));
            }
        }
        None
    }
}

/// As a command is written, and no placeholder.
fn is_command(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_lowercase())
        && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
}

/// The form of clap's help.
fn read(text: &str) -> Help {
    let mut help = Help::default();
    let mut inside = false;
    for line in text.lines() {
        if !line.starts_with(' ') {
            inside = line == "Commands:";
        }
        let first = line.split_whitespace().next().unwrap_or_default();
        if inside && line.starts_with("  ") && !line.starts_with("   ") && first != "help" {
            help.commands.insert(first.to_owned());
        }
        for part in line.split([' ', ',', '[']) {
            let Some(name) = part.strip_prefix("--") else { continue };
            let valued = line.contains(&format!("--{name} <"));
            *help.options.entry(name.to_owned()).or_default() |= valued;
        }
    }
    help
}

#[test]
fn every_command_and_option_that_a_page_shows_is_known_to_the_program() {
    let script = fs::read_to_string(repository().join("x")).expect("x");
    let (mut programs, mut wrong, mut seen) = (Programs::default(), Vec::new(), 0);
    for page in pages() {
        for code in page.code() {
            for shown in invocations(&code.text) {
                seen += 1;
                let why = match shown.program {
                    "./x" => of_script(&script, &shown),
                    _ => programs.judge(&shown),
                };
                wrong.extend(why.map(|why| format!("{}: {why}", page.at(code.line))));
            }
        }
    }
    assert!(seen > 80, "only {seen} command lines were found");
    none(wrong);
}

/// `./x`: its commands and its groups are cases of the shell's.
fn of_script(script: &str, shown: &Invocation) -> Option<String> {
    let mut words = shown.arguments.iter().filter(|word| is_command(word));
    let command = words.next()?;
    if !script.contains(&format!("cmd_{command}()")) {
        return Some(format!("./x has no command {command}"));
    }
    let function = match command.as_str() {
        "test" => "test_",
        "bench" => "bench_",
        _ => return None,
    };
    let unknown = words.find(|word| !script.contains(&format!("\n{function}{word}()")))?;
    Some(format!("./x {command} has no {unknown}"))
}

#[test]
fn a_command_that_is_not_there_is_found() {
    let mut programs = Programs::default();
    for (line, why) in [
        ("rempart statsu", "no command statsu"),
        ("rempart status --jsom", "no option --jsom"),
        ("rempart policy corim exprot", "no command exprot"),
        ("rempart seal set app#a --roles web", "no option --roles"),
        ("rempart-verifier --config a.toml node forget", "no command forget"),
        ("rempartd --chek", "no option --chek"),
    ] {
        let shown = invocations(line).remove(0);
        let told = programs.judge(&shown).expect(line);
        assert!(told.contains(why), "{told}");
    }
    for line in [
        "rempart seal set app/web#tls_key --role web",
        "rempart attest boot.cbor",
        "rempart run --role R -- cat",
    ] {
        assert_eq!(programs.judge(&invocations(line).remove(0)), None, "{line}");
    }
    let script = fs::read_to_string(repository().join("x")).expect("x");
    assert!(of_script(&script, &invocations("./x test everything").remove(0)).is_some());
    assert!(of_script(&script, &invocations("./x tset").remove(0)).is_some());
    assert!(of_script(&script, &invocations("./x test vm-attacks").remove(0)).is_none());
}
