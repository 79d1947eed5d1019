//! What the kernel must have, and how it was told to run.

use rempart_attest::policy::predict::risks;

use super::{
    check::Check,
    facts::{Kernel, Seen},
};

/// The first release by which who asks for a secret is known beyond doubt.
pub const OLDEST: (u32, u32) = (6, 5);

/// All of them.
pub fn checks(kernel: &Kernel) -> Vec<Check> {
    let mut checks = vec![
        release(kernel),
        types(kernel),
        security_modules(kernel),
        secret_memory(kernel),
        lockdown(kernel),
        swap(kernel),
        ima(kernel),
    ];
    checks.extend(host_configuration(&kernel.cmdline));
    checks
}

fn release(kernel: &Kernel) -> Check {
    let release = &kernel.release;
    match version(release) >= Some(OLDEST) {
        true => Check::ok("kernel", release),
        false => Check::failed(
            "kernel",
            if release.is_empty() {
                "not told"
            } else {
                release.as_str()
            },
            "install Linux 6.5 or later: before it the kernel cannot prove which process asks for a secret",
        ),
    }
}

/// Its first two numbers.
pub fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn types(kernel: &Kernel) -> Check {
    match kernel.btf {
        true => Check::ok("btf", "/sys/kernel/btf/vmlinux"),
        false => Check::failed(
            "btf",
            "the kernel has no types of its own: the guard cannot load (no-btf)",
            "use a kernel with CONFIG_DEBUG_INFO_BTF",
        ),
    }
}

/// Whether programs of the guard can deny anything.
pub fn has_bpf(list: &str) -> bool {
    list.trim().split(',').any(|name| name == "bpf")
}

fn security_modules(kernel: &Kernel) -> Check {
    let (name, remedy) = (
        "bpf security module",
        "add bpf to lsm= on the kernel command line: rempart setup shows file and line; without it nothing is enforced",
    );
    match &kernel.lsm {
        Seen::Is(list) if has_bpf(list) => Check::ok(name, list),
        Seen::Is(list) => Check::failed(name, format!("{list} (no-bpf-lsm)"), remedy),
        Seen::Absent => Check::failed(
            name,
            "no list of security modules at /sys/kernel/security/lsm",
            "mount securityfs at /sys/kernel/security, or use a kernel with CONFIG_SECURITYFS",
        ),
        Seen::Hidden(why) => Check::unseen(name, why, "run this as root"),
    }
}

fn secret_memory(kernel: &Kernel) -> Check {
    match &kernel.secret_memory {
        Ok(()) => Check::ok("memfd_secret", "works"),
        Err(why) => Check::failed(
            "memfd_secret",
            why,
            "use a kernel with CONFIG_SECRETMEM, and no secretmem.enable=0 on its command line (secretmem.enable=1 before Linux 6.5)",
        ),
    }
}

fn lockdown(kernel: &Kernel) -> Check {
    let name = "lockdown";
    let mode = |text: &str| {
        let inside = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
        inside.map(|(mode, _)| mode.to_owned())
    };
    match kernel.lockdown.clone().map(|text| mode(&text)) {
        Seen::Is(Some(mode)) if mode == "confidentiality" => Check::failed(
            name,
            "confidentiality: BPF programs may not read kernel memory, and the guard's do (lockdown-confidentiality)",
            "boot with lockdown=integrity: everything is enforced under it",
        ),
        Seen::Is(Some(mode)) if mode == "integrity" => Check::ok(name, mode),
        Seen::Is(Some(mode)) => Check::note(
            name,
            format!("{mode}: the guard alone denies the ways to kernel memory"),
        ),
        Seen::Is(None) | Seen::Absent => Check::note(name, "this kernel has none"),
        Seen::Hidden(why) => Check::unseen(name, why, "run this as root"),
    }
}

fn swap(kernel: &Kernel) -> Check {
    let open: Vec<&str> = kernel
        .swaps
        .iter()
        .filter(|swap| !swap.safe)
        .map(|swap| swap.path.as_str())
        .collect();
    if !open.is_empty() {
        return Check::degraded(
            "swap",
            format!(
                "{} in clear: what services copy into memory of their own can reach the disk",
                open.join(", ")
            ),
            "encrypt it with a key of each boot (crypttab(5), option swap), or swapoff and remove it from fstab",
        );
    }
    let safe: Vec<&str> = kernel.swaps.iter().map(|swap| swap.path.as_str()).collect();
    Check::ok(
        "swap",
        match safe.as_slice() {
            [] => "none".to_owned(),
            some => format!("{}: in memory or encrypted", some.join(", ")),
        },
    )
}

fn ima(kernel: &Kernel) -> Check {
    match &kernel.ima {
        Seen::Is(0 | 1) => Check::note("ima", "measures nothing; a policy with [image.ima] refuses this node"),
        Seen::Is(count) => Check::ok("ima", format!("{count} measurements")),
        Seen::Absent => Check::note(
            "ima",
            "this kernel has none; a policy with [image.ima] refuses this node",
        ),
        Seen::Hidden(why) => Check::unseen("ima", why, "run this as root"),
    }
}

/// The ways by which a host configures the guest and no register shows it. A policy is predicted for images that close them all.
fn host_configuration(cmdline: &str) -> Vec<Check> {
    let check = |risk: &risks::Risk| {
        let words = risk.arguments.join(" ");
        match risk.is_closed(cmdline) {
            true => Check::ok(risk.name, format!("{words} is on the command line")),
            false => Check::degraded(
                risk.name,
                format!("open: {}", risk.reason),
                format!("add {words} to the measured kernel command line: rempart setup shows file and line"),
            ),
        }
    };
    risks::RISKS.iter().map(check).collect()
}

#[cfg(test)]
pub mod tests {
    use super::{
        super::{check::State, facts::Swap},
        *,
    };

    /// A kernel with nothing amiss.
    pub fn good() -> Kernel {
        let words = risks::RISKS.iter().flat_map(|risk| risk.arguments.iter().copied());
        Kernel {
            release: "6.12.1-amd64".into(),
            cmdline: words.collect::<Vec<_>>().join(" "),
            lsm: Seen::Is("lockdown,capability,bpf".into()),
            btf: true,
            secret_memory: Ok(()),
            lockdown: Seen::Is("none [integrity] confidentiality".into()),
            swaps: Vec::new(),
            ima: Seen::Is(300),
        }
    }

    fn state(kernel: &Kernel, name: &str) -> State {
        checks(kernel)
            .into_iter()
            .find(|check| check.name == name)
            .expect(name)
            .state
    }

    #[test]
    fn a_good_kernel_is_well() {
        assert!(
            checks(&good()).iter().all(|check| check.state == State::Ok),
            "{:?}",
            checks(&good())
        );
    }

    #[test]
    fn each_defect_of_a_kernel_is_found() {
        let with = |change: fn(&mut Kernel)| {
            let mut kernel = good();
            change(&mut kernel);
            kernel
        };
        for (name, wanted, kernel) in [
            ("kernel", State::Failed, with(|k| k.release = "6.1.0-13-amd64".into())),
            ("kernel", State::Failed, with(|k| k.release.clear())),
            ("btf", State::Failed, with(|k| k.btf = false)),
            (
                "bpf security module",
                State::Failed,
                with(|k| k.lsm = Seen::Is("apparmor,nobpf".into())),
            ),
            ("bpf security module", State::Failed, with(|k| k.lsm = Seen::Absent)),
            (
                "bpf security module",
                State::Unseen,
                with(|k| k.lsm = Seen::Hidden("x".into())),
            ),
            (
                "memfd_secret",
                State::Failed,
                with(|k| k.secret_memory = Err("no such call".into())),
            ),
            (
                "lockdown",
                State::Failed,
                with(|k| k.lockdown = Seen::Is("none integrity [confidentiality]".into())),
            ),
            (
                "lockdown",
                State::Note,
                with(|k| k.lockdown = Seen::Is("[none] integrity".into())),
            ),
            ("lockdown", State::Note, with(|k| k.lockdown = Seen::Absent)),
            (
                "lockdown",
                State::Unseen,
                with(|k| k.lockdown = Seen::Hidden("x".into())),
            ),
            (
                "swap",
                State::Degraded,
                with(|k| {
                    k.swaps = vec![Swap {
                        path: "/swapfile".into(),
                        safe: false,
                    }]
                }),
            ),
            (
                "swap",
                State::Ok,
                with(|k| {
                    k.swaps = vec![Swap {
                        path: "/dev/zram0".into(),
                        safe: true,
                    }]
                }),
            ),
            ("ima", State::Note, with(|k| k.ima = Seen::Is(1))),
            ("ima", State::Note, with(|k| k.ima = Seen::Absent)),
            ("ima", State::Unseen, with(|k| k.ima = Seen::Hidden("x".into()))),
        ] {
            assert_eq!(state(&kernel, name), wanted, "{name}: {kernel:?}");
        }
    }

    #[test]
    fn a_way_that_the_command_line_leaves_open_is_told_with_the_words_that_close_it() {
        let open = |cmdline: &str| {
            let checks = host_configuration(cmdline).into_iter();
            checks.filter(|check| check.state != State::Ok).collect::<Vec<_>>()
        };
        let all: Vec<&str> = risks::RISKS
            .iter()
            .flat_map(|risk| risk.arguments.iter().copied())
            .collect();
        assert!(open(&all.join(" ")).is_empty());
        let without = open(&all[1..].join(" "));
        assert_eq!(without.len(), 1);
        assert!(without[0].remedy.as_ref().is_some_and(|remedy| remedy.contains(all[0])));
    }

    #[test]
    fn kernel_versions_compare_as_numbers() {
        assert_eq!(version("6.12.117+deb13-cloud-amd64"), Some((6, 12)));
        assert!(version("6.5.0") >= Some(OLDEST));
        assert!(version("5.19.0") < Some(OLDEST));
        assert!(version("") < Some(OLDEST));
    }
}
