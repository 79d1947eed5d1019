//! From the text of a unit to the text of its drop-in. Pure.
//!
//! Must never give a drop-in that starts the unit's own command directly.

use std::collections::BTreeSet;

use rempart_api::{
    agent::lock_limit,
    path::{CREDENTIALS_SOCKET, WRAP},
};
use rempart_core::unitfile::{Assignment, Entry, OptIn, Source, entries, read_opt_in};

use crate::{command::rewrite, defect::Defect};

/// Longest reason that goes into a drop-in, in characters: a journal line, not a report.
const MAX_REASON: usize = 600;

/// What becomes of a unit.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Judgement {
    /// It has not opted in.
    Leave,
    /// The drop-in that wraps it.
    Wrap(String),
    /// Why it may not start.
    Refuse(Defect),
}

/// Judges a service by `files`: its fragment, then its drop-ins in systemd's order.
pub fn judge(files: &[Source<'_>]) -> Judgement {
    match read_opt_in(files) {
        Ok(None) => Judgement::Leave,
        Ok(Some(opt_in)) => wrapping(files, &opt_in).map_or_else(Judgement::Refuse, Judgement::Wrap),
        Err(why) => Judgement::Refuse(Defect::Section(why)),
    }
}

/// One `ExecStart=` that counts, which may hold several commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The unit file.
    pub file: String,
    /// Its line.
    pub line: usize,
    /// As the file has it, continuation lines joined.
    pub written: String,
    /// With the wrapper.
    pub wrapped: String,
}

/// The commands of a service, by `files` in systemd's order.
///
/// # Errors
/// What cannot be rewritten.
pub fn commands(files: &[Source<'_>]) -> Result<Vec<Command>, Defect> {
    Service::read(files).map(|service| service.start)
}

/// The settings of the `[Service]` section that matter here, as systemd merges them.
#[derive(Default)]
struct Service {
    start: Vec<Command>,
    /// The first of the commands that cannot be rewritten; a reset forgets it with the others.
    unfit: Option<Defect>,
    system_calls: bool,
    address_families: bool,
    no_exec: bool,
    /// The unit sets a limit of its own on locked memory.
    lock_limit: bool,
    /// Settings of another root file system, in which there is no wrapper.
    root: BTreeSet<String>,
    /// Credentials that the unit itself sets: file, line and name.
    credentials: Vec<(String, usize, String)>,
    /// Loader variables that the unit itself sets.
    own_loader: BTreeSet<&'static str>,
}

/// They run code inside the wrapper and the service. `systemctl set-environment` would bring them in behind the unit's
/// back, and so would an environment file, which no digest covers: only what the unit's own text sets counts.
const LOADER: [&str; 4] = ["LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH", "GLIBC_TUNABLES"];

fn wrapping(files: &[Source<'_>], opt_in: &OptIn) -> Result<String, Defect> {
    let service = Service::read(files)?;
    if service.start.is_empty() {
        return Err(Defect::NoCommand);
    }
    if let Some(key) = service.root.first() {
        return Err(Defect::OtherRoot(key.clone()));
    }
    let names: Vec<&str> = opt_in.credentials().collect();
    if let Some((file, line, name)) = service.credentials.iter().find(|own| names.contains(&own.2.as_str())) {
        return Err(Defect::OwnCredential {
            file: file.clone(),
            line: *line,
            name: name.clone(),
        });
    }
    Ok(service.text(opt_in.heap, &names))
}

impl Service {
    fn read(files: &[Source<'_>]) -> Result<Self, Defect> {
        let mut service = Self::default();
        for file in files {
            let syntax = |why| Defect::Syntax {
                file: file.path.to_owned(),
                why,
            };
            for entry in entries(file.text).map_err(syntax)? {
                match entry {
                    Entry::Assignment(assignment) if assignment.section == "Service" => {
                        service.assign(file.path, assignment);
                    }
                    _ => {}
                }
            }
        }
        match service.unfit.take() {
            Some(defect) => Err(defect),
            None => Ok(service),
        }
    }

    fn assign(&mut self, file: &str, a: Assignment) {
        let set = !a.value.is_empty();
        match a.key.as_str() {
            "ExecStart" if set => {
                let (file, line) = (file.to_owned(), a.line);
                match rewrite(&a.value) {
                    Ok(wrapped) => self.start.push(Command {
                        file,
                        line,
                        written: a.value,
                        wrapped,
                    }),
                    Err(why) => {
                        self.unfit.get_or_insert(Defect::Command { file, line, why });
                    }
                }
            }
            "ExecStart" => {
                self.start.clear();
                self.unfit = None;
            }
            "SystemCallFilter" => self.system_calls = set,
            "RestrictAddressFamilies" => self.address_families = set,
            "LimitMEMLOCK" => self.lock_limit = set,
            "NoExecPaths" => self.no_exec = set,
            "RootDirectory" | "RootImage" if set && a.value != "/" => {
                self.root.insert(a.key);
            }
            "RootDirectory" | "RootImage" => {
                self.root.remove(&a.key);
            }
            // One of the same name would take the secret's place, or stand in where the agent gives nothing.
            "LoadCredential" | "LoadCredentialEncrypted" | "SetCredential" | "SetCredentialEncrypted" if set => {
                let name = a.value.split(':').next().unwrap_or_default().to_owned();
                self.credentials.push((file.to_owned(), a.line, name));
            }
            "Environment" if set => {
                let sets = |name: &&str| a.value.contains(&format!("{name}="));
                self.own_loader.extend(LOADER.into_iter().filter(sets));
            }
            "Environment" => self.own_loader.clear(),
            _ => {}
        }
    }

    fn text(&self, heap: Option<u64>, credentials: &[&str]) -> String {
        let mut text = String::from(
            "# Written by rempart-generator: this unit opted in by its section [X-Rempart].\n\
             [Unit]\n\
             Requires=rempart-unlocked.target\n\
             After=rempart-unlocked.target\n\
             \n\
             [Service]\n\
             LimitCORE=1\n",
        );
        let foreign: Vec<_> = LOADER
            .into_iter()
            .filter(|name| !self.own_loader.contains(name))
            .collect();
        if !foreign.is_empty() {
            text.push_str(&format!("UnsetEnvironment={}\n", foreign.join(" ")));
        }
        // What the wrapper needs beside what the unit allows itself; each only adds to a list that is there.
        if self.system_calls {
            text.push_str("SystemCallFilter=memfd_secret\n");
        }
        if let Some(heap) = heap {
            if self.system_calls {
                text.push_str("SystemCallFilter=mincore mremap\n");
            }
            // The unit's own word stays; the wrapper says so where it is too small.
            if !self.lock_limit {
                text.push_str(&format!("LimitMEMLOCK={}\n", lock_limit(heap)));
            }
        }
        if self.address_families {
            text.push_str("RestrictAddressFamilies=AF_UNIX\n");
        }
        if self.no_exec {
            text.push_str("ExecPaths=/usr/lib/rempart\n");
        }
        for name in credentials {
            text.push_str(&format!("LoadCredential={name}:{CREDENTIALS_SOCKET}\n"));
        }
        text.push_str("ExecStart=\n");
        for command in &self.start {
            text.push_str("ExecStart=");
            text.push_str(&command.wrapped);
            text.push('\n');
        }
        text
    }
}

/// The drop-in under which a service says `why` and does not start.
pub fn refusing(why: &str) -> String {
    let why: String = why
        .chars()
        .take(MAX_REASON)
        .map(|c| match c {
            '"' => '\'',
            '\\' => '/',
            c if c.is_control() => ' ',
            c => c,
        })
        .collect();
    let why = why.replace('%', "%%");
    format!(
        "# Written by rempart-generator: this unit opted in by its section [X-Rempart], but cannot be wrapped.\n\
         [Service]\n\
         ExecCondition=\n\
         ExecStartPre=\n\
         ExecStartPost=\n\
         SuccessExitStatus=\n\
         Restart=no\n\
         RootDirectory=\n\
         RootImage=\n\
         ExecStart=\n\
         ExecStart=:{WRAP} \"--refuse={why}\"\n"
    )
}

/// The drop-in under which a unit that is no service does not start.
pub fn refusing_other() -> String {
    "# Written by rempart-generator: only services can opt in by a section [X-Rempart].\n\
     [Unit]\n\
     AssertPathExists=!/\n"
        .into()
}

/// The drop-in for a unit that says `Wrap=no` under a prefix that says yes.
pub fn leaving() -> String {
    "# Written by rempart-generator: Wrap=no.\n".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPT_IN: &str = "[X-Rempart]\nWrap=yes\n";

    fn with(service: &str) -> Judgement {
        judge(&[
            Source {
                path: "a.service",
                text: service,
            },
            Source {
                path: "r.conf",
                text: OPT_IN,
            },
        ])
    }

    fn starts(judgement: Judgement) -> Vec<String> {
        let Judgement::Wrap(text) = judgement else {
            panic!("not wrapped: {judgement:?}")
        };
        let mut lines = text.lines().filter_map(|l| l.strip_prefix("ExecStart="));
        assert_eq!(lines.next(), Some(""), "the list is reset first");
        lines
            .map(|l| l.replace("/usr/lib/rempart/rempart-wrap -- ", "W "))
            .collect()
    }

    #[test]
    fn several_commands_and_continuations_stay() {
        let unit =
            "[Service]\nType=oneshot\nExecStart=/bin/a \\\n  b \\\n# no\n  \"c d\"\nExecStart=-/bin/e ; /bin/f\n";
        assert_eq!(starts(with(unit)), ["W /bin/a b \"c d\"", "-W /bin/e ; W /bin/f"]);
    }

    #[test]
    fn each_command_is_known_by_its_place_as_written_and_as_it_will_run() {
        let files = [
            Source {
                path: "a.service",
                text: "[Service]\nExecStart=/bin/a\n",
            },
            Source {
                path: "b.conf",
                text: "[Service]\nExecStart=\nExecStart=-/bin/b \\\n  c\n",
            },
        ];
        let command = Command {
            file: "b.conf".into(),
            line: 3,
            written: "-/bin/b  c".into(),
            wrapped: "-/usr/lib/rempart/rempart-wrap -- /bin/b c".into(),
        };
        assert_eq!(commands(&files), Ok(vec![command]));
    }

    #[test]
    fn a_reset_forgets_what_came_before_only_in_its_section() {
        let unit = "[Service]\nExecStart=relative\nExecStart=\nExecStart=/bin/b\n[Install]\nExecStart=/bin/c\n";
        assert_eq!(
            starts(with(
                "[Service]\nExecStart=/bin/a\nExecStart=\nExecStart=/bin/b\n[X]\nExecStart=/c\n"
            )),
            ["W /bin/b"]
        );
        assert_eq!(
            starts(with(unit)),
            ["W /bin/b"],
            "also what could not have been wrapped"
        );
        for left in [
            "[Service]\nExecStart=/bin/a\nExecStart=\nExecStart=relative\n",
            "[Service]\nExecStart=\nExecStart=relative\nExecStart=/bin/a\n",
            "[Service]\nExecStart=relative\nExecStartPre=\n",
        ] {
            assert!(matches!(with(left), Judgement::Refuse(_)), "{left}");
        }
    }

    #[test]
    fn sandboxes_that_list_what_is_allowed_get_what_the_wrapper_needs() {
        let unit = "[Service]\nExecStart=/bin/a\nSystemCallFilter=@system-service\nRestrictAddressFamilies=AF_INET\n";
        let Judgement::Wrap(text) = with(unit) else { panic!() };
        assert!(text.contains("SystemCallFilter=memfd_secret\n") && text.contains("RestrictAddressFamilies=AF_UNIX\n"));
        let Judgement::Wrap(text) = with("[Service]\nExecStart=/bin/a\nSystemCallFilter=x\nSystemCallFilter=\n") else {
            panic!()
        };
        assert!(
            !text.contains("SystemCallFilter"),
            "an empty list must not become a list of one"
        );
    }

    #[test]
    fn a_secret_heap_gets_the_locked_memory_and_the_calls_that_it_needs() {
        let heap = "[X-Rempart]\nMemory=secret\nMemorySize=64M\n";
        let wrapped = |unit: &str| match with(&format!("{unit}{heap}")) {
            Judgement::Wrap(text) => text,
            other => panic!("{other:?}"),
        };
        let text = wrapped("[Service]\nExecStart=/bin/a\n");
        assert!(text.contains("\nLimitMEMLOCK=150994944\n") && !text.contains("SystemCallFilter"));
        let text = wrapped("[Service]\nExecStart=/bin/a\nLimitMEMLOCK=1G\nSystemCallFilter=@system-service\n");
        assert!(!text.contains("LimitMEMLOCK") && text.contains("SystemCallFilter=mincore mremap\n"));
        let Judgement::Wrap(text) = with("[Service]\nExecStart=/bin/a\n") else {
            panic!()
        };
        assert!(!text.contains("LimitMEMLOCK"));
    }

    #[test]
    fn loader_variables_come_from_the_unit_itself_or_not_at_all() {
        let unset = |unit: &str| {
            let Judgement::Wrap(text) = with(unit) else {
                panic!("not wrapped")
            };
            text.lines()
                .find_map(|l| l.strip_prefix("UnsetEnvironment=").map(str::to_owned))
        };
        let all = "LD_PRELOAD LD_AUDIT LD_LIBRARY_PATH GLIBC_TUNABLES";
        assert_eq!(
            unset("[Service]\nExecStart=/bin/a\nEnvironmentFile=/etc/default/a\n").as_deref(),
            Some(all)
        );
        let own = "[Service]\nExecStart=/bin/a\nEnvironment=A=b \"LD_PRELOAD=/usr/lib/jemalloc.so\"\n";
        assert_eq!(unset(own).as_deref(), Some("LD_AUDIT LD_LIBRARY_PATH GLIBC_TUNABLES"));
        assert_eq!(unset(&format!("{own}Environment=\n")).as_deref(), Some(all));
    }

    #[test]
    fn systemd_asks_the_agent_for_credentials_that_no_other_can_stand_in_for() {
        let unit = "[Service]\nExecStart=/bin/a\nLoadCredential=own:/etc/own\nSetCredential=y:1\n[X-Rempart]\nRole=a\n\
                    Secret=x:credential=kv/a#x\nTemplate=c:credential=/etc/c\nSecret=F:file=kv/a#f\n";
        let Judgement::Wrap(text) = with(unit) else {
            panic!("{unit}")
        };
        let asked: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("LoadCredential="))
            .collect();
        assert_eq!(
            asked,
            [
                "LoadCredential=x:/run/rempart/credentials.sock",
                "LoadCredential=c:/run/rempart/credentials.sock"
            ]
        );
        for own in [
            "LoadCredential=x:/etc/x",
            "SetCredential=x:",
            "LoadCredentialEncrypted=x",
            "SetCredentialEncrypted=c:1",
        ] {
            let unit = unit.replace("SetCredential=y:1", own);
            let Judgement::Refuse(why) = with(&unit) else {
                panic!("{unit}")
            };
            assert!(why.to_string().starts_with("a.service:4: the credential "), "{why}");
        }
    }

    #[test]
    fn a_unit_with_another_root_is_refused_where_its_refusal_can_be_told() {
        for hidden in [
            "RootDirectory=/srv/a\nRootImage=/b\nRootImage=\n",
            "RootImage=/b\nRootDirectory=/srv/a\nRootDirectory=/\n",
        ] {
            let unit = format!("[Service]\nExecStart=/bin/a\n{hidden}");
            assert!(
                matches!(with(&unit), Judgement::Refuse(Defect::OtherRoot(_))),
                "{hidden}"
            );
        }
        let marked = "[Service]\nExecStart=/bin/a\n[Install]\n\u{feff}[Service]\nRootDirectory=/srv/a\n";
        assert!(
            matches!(with(marked), Judgement::Refuse(_)),
            "systemd passes over the mark"
        );
        let Judgement::Refuse(why) = with("[Service]\nExecStart=/bin/a\nRootDirectory=/srv/a\n") else {
            panic!()
        };
        let why = why.to_string();
        assert!(
            why.contains("RootDirectory=") && refusing(&why).contains("\nRootDirectory=\n"),
            "{why}"
        );
        let undone = "[Service]\nExecStart=/bin/a\nRootImage=/a.raw\nRootImage=\n";
        assert!(matches!(with(undone), Judgement::Wrap(_)));
    }

    #[test]
    fn reasons_name_file_and_line() {
        let Judgement::Refuse(why) = with("[Service]\n\nExecStart=/bin/$X\n") else {
            panic!()
        };
        assert!(why.to_string().starts_with("a.service:3: ExecStart=: "), "{why}");
        assert_eq!(why.place(), Some(("a.service", Some(3))));
        let files = [Source {
            path: "r.conf",
            text: "[X-Rempart]\nWrap=yes\nRoll=1\n",
        }];
        let Judgement::Refuse(why) = judge(&files) else {
            panic!()
        };
        assert_eq!(why.to_string(), "r.conf:3: unknown key Roll in [X-Rempart]");
        assert!(matches!(with("[Service]\nUser=x\n"), Judgement::Refuse(_)));
        assert!(matches!(
            with("[Service]\r\nExecStart=/bin/a\r\n"),
            Judgement::Refuse(_)
        ));
        assert_eq!(
            judge(&[Source {
                path: "a",
                text: "[Service]\nExecStart=x\n"
            }]),
            Judgement::Leave
        );
    }

    #[test]
    fn a_refusal_can_hold_any_text_on_one_line() {
        let text = refusing("a \"b\" %n $X \\ \n[Service]\nExecStart=/bin/evil");
        assert_eq!(text.lines().filter(|l| l.starts_with("ExecStart=")).count(), 2);
        assert!(
            text.ends_with("\"--refuse=a 'b' %%n $X /  [Service] ExecStart=/bin/evil\"\n"),
            "{text}"
        );
    }

    /// A generator of text out of the pieces that matter, so that much of it is nearly right.
    #[test]
    fn no_random_unit_ever_gets_an_unwrapped_command() {
        const PIECES: [&str; 24] = [
            "[Service]",
            "[X-Rempart]",
            "[Unit]",
            "ExecStart=",
            "ExecStart=/bin/a",
            "Wrap=yes",
            "Wrap=no",
            "\n",
            "\n",
            "\\\n",
            "\\",
            "\"",
            "'",
            " ; ",
            "@",
            "-",
            "$X",
            "%i",
            "#",
            "\r",
            "\0",
            "=",
            " ",
            "é",
        ];
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = move |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed % below as u64) as usize
        };
        let mut wrapped = 0;
        for _ in 0..200_000 {
            let text: String = (0..random(16)).map(|_| PIECES[random(PIECES.len())]).collect();
            let text = format!("[X-Rempart]\nWrap=yes\n[Service]\nExecStart=/bin/a {text}");
            if let Judgement::Wrap(text) = judge(&[Source { path: "a", text: &text }]) {
                wrapped += 1;
                for line in text
                    .lines()
                    .filter_map(|l| l.strip_prefix("ExecStart="))
                    .filter(|l| !l.is_empty())
                {
                    assert!(
                        line.trim_start_matches(['-', ':', '+', '!']).starts_with(WRAP),
                        "{text}"
                    );
                    assert!(
                        !line.contains(['\r', '\0']) && line.bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 0,
                        "{text}"
                    );
                }
                assert!(text.contains("\nExecStart=\n"));
            }
        }
        assert!(wrapped > 10_000, "{wrapped} wrapped: the pieces are of no use");
    }
}
