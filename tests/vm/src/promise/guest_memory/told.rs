//! One copy, told: what it is, in what kind of page, whose. And the rows that come of all of them.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    memory::{Flags, Found, Frame, KernelMap, Kind, PAGE, Program},
    report::{Outcome, Report},
};

/// Programs that handle secrets on a unit's behalf, and the others of ours.
const OURS: [&str; 4] = ["rempartd", "rempart-wrap", "rempart-guard", "rempart"];

/// What is searched for, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    OrdinaryControl,
    SecretControl,
    SharedControl,
    Password,
    TlsKeyText,
    TlsKeyNumber,
    TlsKeyLimbs,
    Unread,
    VaultToken,
    Result,
}

impl What {
    pub fn words(self) -> &'static str {
        match self {
            Self::OrdinaryControl => "control in a heap",
            Self::SecretControl => "control in secret memory",
            Self::SharedControl => "control in a file",
            Self::Password => "database password",
            Self::TlsKeyText => "TLS key (PEM)",
            Self::TlsKeyNumber => "TLS key (number)",
            Self::TlsKeyLimbs => "TLS key (number, least significant byte first)",
            Self::Unread => "secret that its program does not read",
            Self::VaultToken => "vault token",
            Self::Result => "Attestation Result",
        }
    }
}

/// A copy, told.
pub struct Told {
    what: What,
    kind: Kind,
    /// Programs that map it.
    of: BTreeSet<String>,
    /// Some program of ours maps it.
    ours: bool,
}

/// Tells what a copy is, by the page tables of the snapshot and by what the guest's kernel said afterwards.
pub fn tell(
    copy: &Found,
    what: What,
    kernel: &KernelMap,
    programs: &[Program],
    flags: &BTreeMap<Frame, Flags>,
    now: &BTreeMap<Frame, Vec<u8>>,
) -> Told {
    let of: Vec<&Program> = programs.iter().filter(|program| program.maps(copy.frame)).collect();
    let here = &copy.bytes[..copy.bytes.len().min(PAGE - copy.offset)];
    let still = now
        .get(&copy.frame)
        .is_some_and(|page| page[copy.offset..].starts_with(here));
    let asked = flags.get(&copy.frame).filter(|_| still).map(|flags| flags.kind());
    let a_process_has = [Kind::Anonymous, Kind::SharedMemory, Kind::PageCache];
    let kind = match asked {
        _ if !kernel.direct(copy.frame) && !of.is_empty() => Kind::SecretMemory,
        _ if !kernel.direct(copy.frame) => Kind::Unmapped,
        None => Kind::Gone,
        Some(kind) if !of.is_empty() && !a_process_has.contains(&kind) => Kind::Gone,
        Some(Kind::Kernel) if kernel.elsewhere(copy.frame) => Kind::Vmalloc,
        Some(kind) => kind,
    };
    Told {
        what,
        kind,
        ours: of.iter().any(|program| OURS.contains(&program.name())),
        of: of.iter().map(|program| program.name().to_owned()).collect(),
    }
}

/// The rows.
pub fn judge(told: &[Told], looked_at: &str, report: &mut Report) {
    let of = |whats: &[What]| -> Vec<&Told> { told.iter().filter(|copy| whats.contains(&copy.what)).collect() };
    let outcome = |holds: bool, outcome: Outcome| if holds { outcome } else { Outcome::Broken };

    // A control's own process makes it out of parts, and may leave some behind.
    for (name, what, kind) in [
        ("control_in_ordinary_memory", What::OrdinaryControl, Kind::Anonymous),
        ("control_in_a_file_in_memory", What::SharedControl, Kind::SharedMemory),
    ] {
        let copies = of(&[what]);
        let found = copies.iter().any(|copy| copy.kind == kind);
        let secret = copies.iter().any(|copy| copy.kind == Kind::SecretMemory);
        let seen = outcome(found && !secret, Outcome::NotStopped);
        report.row(
            format!("guest_memory::{name}"),
            Outcome::NotStopped,
            seen,
            listed(&copies),
        );
    }
    let copies = of(&[What::SecretControl]);
    let secret = |copies: &[&Told]| !copies.is_empty() && copies.iter().all(|copy| copy.kind == Kind::SecretMemory);
    report.row(
        "guest_memory::control_in_secret_memory",
        Outcome::NotStopped,
        outcome(secret(&copies), Outcome::NotStopped),
        format!("{}; {looked_at}", listed(&copies)),
    );

    let copies = of(&[What::Password, What::Unread]);
    let in_secret = |program: &str| {
        copies
            .iter()
            .any(|copy| copy.kind == Kind::SecretMemory && copy.of.contains(program))
    };
    report.row(
        "guest_memory::units_secret_is_in_secret_memory",
        Outcome::Works,
        outcome(in_secret("demo-db") && in_secret("sleep"), Outcome::Works),
        listed(&copies),
    );

    // Nobody but the agent, the wrapper and the kernel on their behalf ever had these.
    let only_ours = [What::Unread, What::VaultToken, What::Result];
    let copies: Vec<&Told> = told
        .iter()
        .filter(|copy| copy.ours || only_ours.contains(&copy.what))
        .collect();
    let outside = copies.iter().filter(|copy| copy.kind != Kind::SecretMemory).count();
    let seen = if outside == 0 {
        outcome(!copies.is_empty(), Outcome::Denied)
    } else {
        Outcome::Works
    };
    report.row(
        "guest_memory::no_copy_in_ordinary_memory",
        Outcome::Denied,
        seen,
        format!("{outside} outside secret memory: {}", listed(&copies)),
    );

    let copies = of(&[What::Password, What::TlsKeyText, What::TlsKeyNumber, What::TlsKeyLimbs]);
    let own: Vec<&Told> = copies
        .into_iter()
        .filter(|copy| copy.kind != Kind::SecretMemory)
        .collect();
    report.row(
        "guest_memory::copies_that_services_make",
        Outcome::NotStopped,
        outcome(!own.is_empty(), Outcome::NotStopped),
        listed(&own),
    );
}

/// What, how often, in what kind of page, of whom.
fn listed(copies: &[&Told]) -> String {
    let mut counted: BTreeMap<(What, Kind, String), usize> = BTreeMap::new();
    for copy in copies {
        let of = copy.of.iter().cloned().collect::<Vec<_>>().join(" and ");
        *counted.entry((copy.what, copy.kind, of)).or_default() += 1;
    }
    let words = |((what, kind, of), count): (&(What, Kind, String), &usize)| {
        let of = if of.is_empty() { "nobody" } else { of };
        format!("{} {count} × {} of {of}", what.words(), kind.words())
    };
    if counted.is_empty() {
        return "none".to_owned();
    }
    counted.iter().map(words).collect::<Vec<_>>().join(", ")
}
