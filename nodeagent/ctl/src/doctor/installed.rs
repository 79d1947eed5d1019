//! What of Rempart is installed: systemd, users, folders, the bus's policy, the configuration, certificates.

use rempart_api::bus::NAME;

use super::{
    check::Check,
    facts::{Certificate, Entry, Facts, Installed, Seen, System},
};

/// The oldest systemd that the packages take.
const OLDEST_SYSTEMD: u32 = 252;
/// A certificate that ends sooner is told of, seconds: two weeks.
const SOON: i64 = 14 * 86_400;
/// What the agent needs of locked memory, and what its unit gives it.
const LOCKED: (u64, u64) = (8 << 20, 256 << 20);
/// The users of tmpfiles.d and sysusers.d.
pub const USERS: [&str; 3] = ["rempart", "rempart-guard", "rempart-gate"];
/// The group that may talk to the TPM.
const TPM_GROUP: &str = "tss";
/// What tmpfiles.d/rempart.conf makes: path, mode, user, group.
pub const FOLDERS: [(&str, u32, &str, &str); 6] = [
    ("/run/rempart", 0o755, "rempart", "rempart"),
    ("/run/rempart/units", 0o755, "rempart", "rempart"),
    ("/run/rempart-jobs", 0o770, "root", "rempart"),
    ("/var/lib/rempart", 0o700, "rempart", "rempart"),
    ("/sys/fs/bpf", 0o711, "root", "root"),
    ("/sys/fs/bpf/rempart", 0o700, "rempart-guard", "root"),
];
/// What only root may change.
pub const ROOTS: [&str; 3] = ["/etc/rempart", "/etc/rempart/rempart.toml", "/etc/rempart/conf.d"];
/// Units that run for as long as the machine does.
pub const RUNNING: [&str; 4] = [
    "rempart-guard.service",
    "rempart-evidence.socket",
    "rempart-jobs.path",
    "rempartd.service",
];

/// All of them.
pub fn checks(facts: &Facts) -> Vec<Check> {
    let installed = &facts.installed;
    let mut checks = vec![
        systemd(&facts.system),
        users(installed),
        folders(installed),
        bus_policy(installed),
        bus_name(&facts.system, installed),
        configuration(installed),
        services(&facts.system),
        locked_memory(&facts.system),
    ];
    checks.extend(certificates(installed, facts.now));
    checks
}

fn systemd(system: &System) -> Check {
    match &system.systemd {
        Seen::Is(version) => {
            let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
            match digits.parse::<u32>() {
                Ok(number) if number >= OLDEST_SYSTEMD => Check::ok("systemd", version),
                _ => Check::failed("systemd", version, "bring systemd to release 252 or later"),
            }
        }
        Seen::Absent => Check::failed(
            "systemd",
            "not booted with systemd",
            "Rempart wraps units of systemd's: boot with it",
        ),
        Seen::Hidden(why) => Check::unseen(
            "systemd",
            why,
            "check: systemctl is-system-running; systemctl status dbus",
        ),
    }
}

fn users(installed: &Installed) -> Check {
    let there = |text: &str, name: &str| text.lines().any(|line| line.split(':').next() == Some(name));
    let missing: Vec<&str> = USERS
        .into_iter()
        .filter(|user| !there(&installed.passwd, user))
        .collect();
    if !missing.is_empty() {
        return Check::failed(
            "users",
            format!("{} not there", missing.join(", ")),
            "systemd-sysusers rempart.conf",
        );
    }
    let group = installed
        .groups
        .lines()
        .find(|line| line.split(':').next() == Some(TPM_GROUP));
    let member = group.is_some_and(|line| {
        line.split(':')
            .nth(3)
            .is_some_and(|list| list.split(',').any(|name| name == "rempart"))
    });
    match member {
        true => Check::ok("users", USERS.join(", ")),
        false => Check::failed(
            "users",
            format!("rempart is not in the group {TPM_GROUP}, so the agent may not talk to the TPM"),
            "systemd-sysusers rempart.conf, then systemctl restart rempartd",
        ),
    }
}

/// The number of a user or group in the text of passwd(5) or group(5).
fn number(text: &str, name: &str) -> Option<u32> {
    let line = text.lines().find(|line| line.split(':').next() == Some(name))?;
    line.split(':').nth(2)?.parse().ok()
}

fn folders(installed: &Installed) -> Check {
    let mut wrong = Vec::new();
    let mut hidden = Vec::new();
    let mut look = |path: &str, judge: &dyn Fn(&Entry) -> Option<String>, must: bool| match installed.entries.get(path)
    {
        Some(Seen::Is(entry)) => wrong.extend(judge(entry).map(|what| format!("{path} {what}"))),
        Some(Seen::Hidden(why)) => hidden.push(format!("{path} ({why})")),
        Some(Seen::Absent) | None if must => wrong.push(format!("{path} is not there")),
        Some(Seen::Absent) | None => {}
    };
    for (path, mode, user, group) in FOLDERS {
        let owners = (number(&installed.passwd, user), number(&installed.groups, group));
        let judge = |entry: &Entry| {
            let as_wanted = entry.mode == mode && owners == (Some(entry.user), Some(entry.group));
            (!as_wanted).then(|| {
                format!(
                    "has mode {:04o} and owners {}:{}, not {mode:04o} {user}:{group}",
                    entry.mode, entry.user, entry.group
                )
            })
        };
        look(path, &judge, true);
    }
    for path in ROOTS {
        let judge = |entry: &Entry| {
            (entry.user != 0 || entry.mode & 0o022 != 0).then(|| {
                format!(
                    "can be changed by others than root (mode {:04o}, user {})",
                    entry.mode, entry.user
                )
            })
        };
        look(path, &judge, false);
    }
    match (wrong.as_slice(), hidden.as_slice()) {
        ([], []) => Check::ok("folders", format!("{} as they should be", FOLDERS.len() + ROOTS.len())),
        ([], hidden) => Check::unseen("folders", hidden.join("; "), "run this as root"),
        (wrong, _) => Check::failed(
            "folders",
            wrong.join("; "),
            "systemd-tmpfiles --create rempart.conf; chown root and chmod go-w what belongs to root",
        ),
    }
}

fn bus_policy(installed: &Installed) -> Check {
    let remedy = "reinstall the package; /usr/share/dbus-1/system.d/org.rempart.NodeAgent1.conf belongs to it";
    match &installed.bus_policy {
        Seen::Is(text) => {
            let ours = format!("<allow own=\"{NAME}\"/>");
            let inside = text.split_once("<policy user=\"rempart\">").is_some_and(|(_, rest)| {
                rest.split_once("</policy>")
                    .is_some_and(|(policy, _)| policy.contains(&ours))
            });
            match inside && text.matches(&ours).count() == 1 && text.contains(&format!("<deny own=\"{NAME}\"/>")) {
                true => Check::ok("bus policy", "the name is the user rempart's alone"),
                false => Check::failed(
                    "bus policy",
                    "it does not keep the agent's name for the user rempart",
                    remedy,
                ),
            }
        }
        Seen::Absent => Check::failed("bus policy", "not there: the agent may not take its name", remedy),
        Seen::Hidden(why) => Check::unseen("bus policy", why, "run this as root"),
    }
}

fn bus_name(system: &System, installed: &Installed) -> Check {
    match &system.name_owner {
        Seen::Is(user) if number(&installed.passwd, "rempart") == Some(*user) => {
            Check::ok("bus name", format!("{NAME} is the user rempart's"))
        }
        Seen::Is(user) => Check::failed(
            "bus name",
            format!("{NAME} belongs to the user with number {user}: what it says is not the agent's word"),
            "find out which program it is: busctl status org.rempart.NodeAgent1",
        ),
        Seen::Absent => Check::failed("bus name", "nobody has it", "start the agent: systemctl start rempartd"),
        Seen::Hidden(why) => Check::unseen("bus name", why, "check: systemctl status dbus"),
    }
}

fn configuration(installed: &Installed) -> Check {
    let name = "configuration";
    match &installed.settings {
        Seen::Is(Ok(settings)) => {
            let verifier = settings.verifier.as_ref().map(|verifier| verifier.origin.url());
            let verifier = verifier.unwrap_or_else(|| "none: local".to_owned());
            Check::ok(name, format!("node {}, Verifier {verifier}", settings.node))
        }
        Seen::Is(Err(why)) => Check::failed(name, why, "correct it; check with: /usr/lib/rempart/rempartd --check"),
        Seen::Absent => Check::failed(name, "no /etc/rempart/rempart.toml", "write it: rempart setup"),
        Seen::Hidden(why) => Check::unseen(name, why, "run this as root"),
    }
}

fn services(system: &System) -> Check {
    let mut failed = Vec::new();
    let mut hidden = None;
    for unit in RUNNING {
        match system.units.get(unit) {
            Some(Seen::Is(state)) if state == "active" => {}
            Some(Seen::Is(state)) => failed.push(format!("{unit} is {state}")),
            Some(Seen::Hidden(why)) => hidden = Some(why.clone()),
            Some(Seen::Absent) | None => failed.push(format!("{unit} is not loaded")),
        }
    }
    match (failed.as_slice(), hidden) {
        ([], None) => Check::ok("services", RUNNING.join(", ")),
        ([], Some(why)) => Check::unseen("services", why, "check: systemctl is-system-running"),
        (failed, _) => Check::failed(
            "services",
            failed.join(", "),
            format!(
                "systemctl enable --now {}; journalctl -u rempartd -u rempart-guard",
                RUNNING.join(" ")
            ),
        ),
    }
}

fn locked_memory(system: &System) -> Check {
    let name = "locked memory";
    let remedy =
        "set LimitMEMLOCK=256M for rempartd.service (systemctl edit rempartd), and see that the machine has as much";
    match system.locked_memory {
        Seen::Is(limit) if limit < LOCKED.0 => Check::failed(
            name,
            format!("{limit} bytes: the agent does not fit into secret memory"),
            remedy,
        ),
        Seen::Is(limit) if limit < LOCKED.1 => Check::degraded(
            name,
            format!("{} MiB: many releases at once can be refused", limit >> 20),
            remedy,
        ),
        Seen::Is(u64::MAX) => Check::ok(name, "without limit"),
        Seen::Is(limit) => Check::ok(name, format!("{} MiB", limit >> 20)),
        Seen::Absent => Check::unseen(name, "rempartd.service is not loaded", "see the line of the services"),
        Seen::Hidden(ref why) => Check::unseen(name, why, "check: systemctl show -P LimitMEMLOCK rempartd"),
    }
}

/// One for each file.
pub fn certificates(installed: &Installed, now: u64) -> Vec<Check> {
    let judged = installed.certificates.iter().map(|(path, seen)| {
        let check = match seen {
            Seen::Is(Ok(list)) => judge(list, now),
            Seen::Is(Err(why)) => Check::failed("certificates", why, "put the authority's certificate there, PEM"),
            Seen::Absent => Check::failed(
                "certificates",
                "not there",
                "put the authority's certificate there, PEM",
            ),
            Seen::Hidden(why) => Check::unseen("certificates", why, "run this as root"),
        };
        check.of(path)
    });
    judged.collect()
}

fn judge(list: &[Certificate], now: u64) -> Check {
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let remedy = "get the next one from who issued it, before this one ends";
    let Some(first) = list.iter().min_by_key(|certificate| certificate.not_after) else {
        return Check::failed(
            "certificates",
            "it holds none",
            "put the authority's certificate there, PEM",
        );
    };
    let days = (first.not_after - now) / 86_400;
    if let Some(early) = list.iter().find(|certificate| certificate.not_before > now) {
        return Check::failed(
            "certificates",
            format!("{} is not valid yet", early.subject),
            "see the line of the clock",
        );
    }
    match first.not_after - now {
        left if left <= 0 => Check::failed(
            "certificates",
            format!("{} has ended {} days ago", first.subject, -days),
            remedy,
        ),
        left if left < SOON => {
            Check::degraded("certificates", format!("{} ends in {days} days", first.subject), remedy)
        }
        _ => Check::ok("certificates", format!("{} for another {days} days", first.subject)),
    }
}

#[cfg(test)]
pub mod tests {
    use std::collections::BTreeMap;

    use super::{super::check::State, *};

    const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nrempart:x:990:990::/:/bin/false\nrempart-guard:x:991:991::/:/x\nrempart-gate:x:992:992::/:/x\n";
    const GROUPS: &str = "root:x:0:\nrempart:x:990:\nrempart-guard:x:991:\ntss:x:100:other,rempart\n";
    const CONFIGURATION: &str = "[node]\nname = \"n\"\n[vault]\nkind = \"tpm\"\n";

    /// An installation with nothing amiss.
    pub fn good() -> Installed {
        let mut entries: BTreeMap<String, Seen<Entry>> = FOLDERS
            .iter()
            .map(|(path, mode, user, group)| {
                let (user, group) = (number(PASSWD, user).expect(user), number(GROUPS, group).expect(group));
                let entry = Entry {
                    mode: *mode,
                    user,
                    group,
                };
                ((*path).to_owned(), Seen::Is(entry))
            })
            .collect();
        for path in ROOTS {
            let entry = Entry {
                mode: 0o644,
                user: 0,
                group: 0,
            };
            entries.insert(path.to_owned(), Seen::Is(entry));
        }
        let policy = include_str!("../../../../packaging/common/usr/share/dbus-1/system.d/org.rempart.NodeAgent1.conf");
        let fragment = rempart_core::config::Fragment::parse("test", CONFIGURATION).expect("TOML");
        Installed {
            bus_policy: Seen::Is(policy.into()),
            passwd: PASSWD.into(),
            groups: GROUPS.into(),
            entries,
            settings: Seen::Is(Ok(rempart_core::config::Settings::judge(fragment).expect("whole"))),
            certificates: Vec::new(),
        }
    }

    /// A system with nothing amiss.
    pub fn good_system() -> System {
        let mut units: BTreeMap<&'static str, Seen<String>> = RUNNING
            .into_iter()
            .map(|unit| (unit, Seen::Is("active".to_owned())))
            .collect();
        units.insert("rempart-unlocked.target", Seen::Is("active".into()));
        units.insert("rempart-gate.service", Seen::Is("active".into()));
        System {
            systemd: Seen::Is("257.9-1".into()),
            synchronised: Seen::Is(true),
            locked_memory: Seen::Is(256 << 20),
            units,
            name_owner: Seen::Is(990),
        }
    }

    #[test]
    fn the_folders_are_those_of_the_package() {
        let text = include_str!("../../../../packaging/common/usr/lib/tmpfiles.d/rempart.conf");
        let made: Vec<String> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().skip(1).take(4).collect::<Vec<_>>().join(" "))
            .collect();
        let mut ours: Vec<String> = FOLDERS
            .iter()
            .map(|(path, mode, user, group)| format!("{path} {mode:04o} {user} {group}"))
            .collect();
        let mut made = made;
        made.sort();
        ours.sort();
        assert_eq!(ours, made);
        let users = include_str!("../../../../packaging/common/usr/lib/sysusers.d/rempart.conf");
        for user in USERS {
            assert!(users.contains(&format!("u {user} -")), "{user}");
        }
        let presets = include_str!("../../../../packaging/common/usr/lib/systemd/system-preset/50-rempart.preset");
        for unit in RUNNING {
            assert!(presets.contains(&format!("enable {unit}")), "{unit}");
        }
    }

    #[test]
    fn a_good_installation_is_well() {
        let (installed, system) = (good(), good_system());
        for check in [
            systemd(&system),
            users(&installed),
            folders(&installed),
            bus_policy(&installed),
            bus_name(&system, &installed),
            configuration(&installed),
            services(&system),
            locked_memory(&system),
        ] {
            assert_eq!(check.state, State::Ok, "{check:?}");
        }
    }

    #[test]
    fn users_and_folders_that_are_not_as_the_package_made_them_are_found() {
        let mut broken = good();
        broken.passwd = broken.passwd.replace("rempart-gate", "x");
        assert!(users(&broken).found.contains("rempart-gate"));
        let mut broken = good();
        broken.groups = broken.groups.replace(",rempart", "");
        assert!(users(&broken).state == State::Failed && users(&broken).found.contains("tss"));

        let state = |path: &str, seen: Seen<Entry>| {
            let mut installed = good();
            installed.entries.insert(path.to_owned(), seen);
            folders(&installed)
        };
        let entry = |mode, user, group| Seen::Is(Entry { mode, user, group });
        for (path, seen, wanted) in [
            ("/var/lib/rempart", entry(0o750, 990, 990), State::Failed),
            ("/var/lib/rempart", entry(0o700, 0, 990), State::Failed),
            ("/run/rempart-jobs", Seen::Absent, State::Failed),
            ("/sys/fs/bpf/rempart", Seen::Hidden("only root".into()), State::Unseen),
            ("/etc/rempart/rempart.toml", entry(0o664, 0, 0), State::Failed),
            ("/etc/rempart/rempart.toml", entry(0o644, 990, 0), State::Failed),
            ("/etc/rempart/rempart.toml", Seen::Absent, State::Ok),
        ] {
            let check = state(path, seen);
            assert!(
                check.state == wanted && (wanted == State::Ok || check.found.contains(path)),
                "{check:?}"
            );
        }
    }

    #[test]
    fn a_policy_that_lets_others_have_the_name_is_found() {
        let text = |change: &dyn Fn(String) -> String| {
            let mut installed = good();
            let Seen::Is(policy) = installed.bus_policy else {
                panic!()
            };
            installed.bus_policy = Seen::Is(change(policy));
            bus_policy(&installed).state
        };
        assert_eq!(text(&|policy| policy), State::Ok);
        assert_eq!(text(&|policy| policy.replace("<deny own", "<deny x")), State::Failed);
        assert_eq!(
            text(&|policy| policy.replace("user=\"rempart\"", "user=\"other\"")),
            State::Failed
        );
        let both = "<policy user=\"root\">\n<allow own=\"org.rempart.NodeAgent1\"/>";
        assert_eq!(
            text(&|policy| policy.replace("<policy user=\"root\">", both)),
            State::Failed
        );
        let mut none = good();
        none.bus_policy = Seen::Absent;
        assert_eq!(bus_policy(&none).state, State::Failed);
        none.bus_policy = Seen::Hidden("x".into());
        assert_eq!(bus_policy(&none).state, State::Unseen);

        let owner = |seen| {
            let system = System {
                name_owner: seen,
                ..good_system()
            };
            bus_name(&system, &good()).state
        };
        assert_eq!(owner(Seen::Is(0)), State::Failed, "an impostor");
        assert_eq!(owner(Seen::Absent), State::Failed);
        assert_eq!(owner(Seen::Hidden("x".into())), State::Unseen);
    }

    #[test]
    fn systemd_services_and_limits_are_judged() {
        let system = |change: fn(&mut System)| {
            let mut system = good_system();
            change(&mut system);
            system
        };
        assert_eq!(
            systemd(&system(|system| system.systemd = Seen::Is("249".into()))).state,
            State::Failed
        );
        assert_eq!(
            systemd(&system(|system| system.systemd = Seen::Absent)).state,
            State::Failed
        );
        assert_eq!(
            systemd(&system(|system| system.systemd = Seen::Hidden("x".into()))).state,
            State::Unseen
        );
        for (limit, state) in [
            (Seen::Is(1 << 20), State::Failed),
            (Seen::Is(64 << 20), State::Degraded),
            (Seen::Is(u64::MAX), State::Ok),
            (Seen::Absent, State::Unseen),
            (Seen::Hidden("x".into()), State::Unseen),
        ] {
            let system = System {
                locked_memory: limit,
                ..good_system()
            };
            assert_eq!(locked_memory(&system).state, state, "{system:?}");
        }
        let dead = system(|system| drop(system.units.insert("rempart-guard.service", Seen::Is("failed".into()))));
        assert!(
            services(&dead).state == State::Failed && services(&dead).found.contains("rempart-guard.service is failed")
        );
        let none = system(|system| drop(system.units.insert("rempartd.service", Seen::Absent)));
        assert_eq!(services(&none).state, State::Failed);
        let hidden = system(|system| drop(system.units.insert("rempartd.service", Seen::Hidden("x".into()))));
        assert_eq!(services(&hidden).state, State::Unseen);
    }

    #[test]
    fn a_configuration_that_the_agent_refuses_or_cannot_read_is_found() {
        for (seen, state) in [
            (
                Seen::Is(Err("configuration: `node.name` is missing".into())),
                State::Failed,
            ),
            (Seen::Absent, State::Failed),
            (Seen::Hidden("only root may look".into()), State::Unseen),
        ] {
            let installed = Installed {
                settings: seen,
                ..good()
            };
            assert_eq!(configuration(&installed).state, state);
        }
    }

    #[test]
    fn a_certificate_is_told_of_before_it_ends() {
        let day = 86_400;
        let now = 1_800_000_000_u64;
        let state = |not_before: i64, not_after: i64| {
            let at = |days: i64| now as i64 + days * day;
            let one = |not_before, not_after| Certificate {
                subject: "CN=ca".into(),
                not_before,
                not_after,
            };
            let list = vec![one(at(-10), at(400)), one(at(not_before), at(not_after))];
            let installed = Installed {
                certificates: vec![("/ca.pem".into(), Seen::Is(Ok(list)))],
                ..good()
            };
            certificates(&installed, now)[0].state
        };
        assert_eq!(state(-10, 100), State::Ok);
        assert_eq!(state(-10, 5), State::Degraded, "the first that ends counts");
        assert_eq!(state(-10, -5), State::Failed);
        assert_eq!(state(5, 100), State::Failed);
        for (seen, state) in [
            (Seen::Is(Ok(Vec::new())), State::Failed),
            (Seen::Is(Err("no PEM".into())), State::Failed),
            (Seen::Absent, State::Failed),
            (Seen::Hidden("x".into()), State::Unseen),
        ] {
            let installed = Installed {
                certificates: vec![("/ca.pem".into(), seen)],
                ..good()
            };
            assert_eq!(certificates(&installed, now)[0].state, state);
        }
    }
}
