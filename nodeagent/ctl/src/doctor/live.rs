//! What is in force now: the agent and until when, the guard and its programs, the gate, the record, what units hold.

use rempart_api::{bus::State as Node, guard};

use super::{
    check::Check,
    facts::{Facts, Live, Seen, System},
};
use crate::status::Status;

/// All of them.
pub fn checks(facts: &Facts) -> Vec<Check> {
    let live = &facts.live;
    let told = live.agent.as_ref().ok().map(Box::as_ref);
    let mut checks = vec![agent(live, facts.now)];
    checks.extend(told.and_then(memory));
    checks.push(guard_check(live));
    checks.push(pins(live));
    checks.push(lost(live));
    checks.push(gate(live, &facts.system));
    checks.push(audit(&live.audit));
    checks.extend(told.map(leases));
    checks.extend(told.map(offline));
    checks.extend(units(live));
    checks
}

fn agent(live: &Live, now: u64) -> Check {
    let status = match &live.agent {
        Ok(status) => status,
        Err(why) => return Check::failed("agent", why, "start it: systemctl start rempartd"),
    };
    let reason = match status.reason.as_str() {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    let found = format!("{}{reason}", status.state);
    let remedy = "see: rempart status; journalctl -u rempartd";
    match Node::from_word(&status.state) {
        Some(Node::Unlocked) => {
            let left = (status.unlocked_until_us / 1_000_000).saturating_sub(now);
            let who = match status.local {
                true => "; nobody outside has judged this machine",
                false => "",
            };
            Check::ok(
                "agent",
                format!(
                    "unlocked for another {} min {} s unless attested again before{who}",
                    left / 60,
                    left % 60
                ),
            )
        }
        Some(Node::Booting | Node::Attesting) => Check::degraded("agent", found, remedy),
        Some(Node::Locked) | None => {
            let running = match status.not_stopped.as_slice() {
                [] => String::new(),
                units => format!("; not stopped yet: {}", units.join(", ")),
            };
            Check::failed(
                "agent",
                format!("{found}{running}"),
                "remove the cause that it names, then: rempart attest",
            )
        }
    }
}

/// Whether the agent itself is in secret memory.
fn memory(status: &Status) -> Option<Check> {
    let memory = status.memory.as_ref()?;
    Some(match memory.secret {
        true => Check::ok("agent's memory", "secret: heap and stacks"),
        false => Check::failed(
            "agent's memory",
            format!("memory-ordinary: {}", memory.why),
            "raise LimitMEMLOCK= of rempartd.service; then set memory.degraded = \"refuse\"",
        ),
    })
}

/// The agent's word of the guard, or the guard's own.
fn guard_status(live: &Live) -> Option<&guard::Status> {
    match &live.agent {
        Ok(status) => Some(&status.guard),
        Err(_) => live.guard.known(),
    }
}

fn guard_check(live: &Live) -> Check {
    let name = "guard";
    let Some(guard) = guard_status(live) else {
        return match &live.guard {
            Seen::Hidden(why) => Check::unseen(name, why, "run this as root; systemctl status rempart-guard"),
            _ => Check::failed(
                name,
                "nobody listens at its socket; programs that it pinned stay in force",
                "systemctl start rempart-guard; journalctl -u rempart-guard",
            ),
        };
    };
    let attached = guard.programs.iter().filter(|program| program.attached).count();
    let all = guard.programs.len();
    let why = guard.why.as_deref().unwrap_or("no reason is told");
    let remedy = "see docs/degraded.md for this word; journalctl -u rempart-guard";
    if !guard.enforcing {
        return Check::failed(
            name,
            format!("not enforcing, {attached} of {all} programs: {why}"),
            remedy,
        );
    }
    if !guard.lifted.is_empty() {
        let words: Vec<&str> = guard.lifted.iter().map(|lift| lift.word()).collect();
        return Check::failed(
            name,
            format!(
                "break-glass: {} lifted for another {} s",
                words.join(" and "),
                guard.lifted_for_s
            ),
            "when the work is done: rempart break-glass end",
        );
    }
    if guard.why.is_some() || attached < all || !guard.missing_vectors.is_empty() {
        let missing = match guard.missing_vectors.as_slice() {
            [] => String::new(),
            rows => format!("; not denied: {}", rows.join(", ")),
        };
        return Check::degraded(
            name,
            format!("enforcing, {attached} of {all} programs: {why}{missing}"),
            remedy,
        );
    }
    if !guard.armed {
        return Check::degraded(
            name,
            format!(
                "enforcing, {all} programs, and not armed: what concerns the whole machine is denied once the node is unlocked"
            ),
            "see the agent's line",
        );
    }
    if guard.files_observed {
        return Check::degraded(
            name,
            format!("enforcing, {all} programs; changes of Rempart's own files are recorded only"),
            "set guard.files = \"enforce\"",
        );
    }
    let tpm = match guard.tpm_exclusive {
        true => "the agent's alone",
        false => "open to root",
    };
    Check::ok(
        name,
        format!(
            "enforcing, armed, {all} programs, {} files sealed, TPM {tpm}",
            guard.sealed
        ),
    )
}

/// What keeps the programs in force when the guard ends.
fn pins(live: &Live) -> Check {
    let name = "pinned programs";
    let pinned = match &live.pins {
        Seen::Is(pinned) => pinned,
        Seen::Absent => {
            return Check::failed(
                name,
                "no /sys/fs/bpf/rempart",
                "mount a bpffs at /sys/fs/bpf, then: systemd-tmpfiles --create rempart.conf && systemctl restart rempart-guard",
            );
        }
        Seen::Hidden(why) => return Check::unseen(name, why, "run this as root"),
    };
    let Some(guard) = guard_status(live).filter(|guard| !guard.programs.is_empty()) else {
        return Check::unseen(
            name,
            format!("{} pins, and nobody tells which there should be", pinned.len()),
            "see the guard's line",
        );
    };
    let expected = guard.programs.iter().filter(|program| program.attached);
    let (mut count, mut missing) = (0, Vec::new());
    for program in expected {
        count += 1;
        if !pinned.iter().any(|pin| *pin == format!("link_{}", program.name)) {
            missing.push(program.name.as_str());
        }
    }
    match (count, missing.as_slice()) {
        (0, _) => Check::failed(name, "none: nothing is attached", "see the guard's line"),
        (_, []) => Check::ok(name, format!("{count}, each as expected")),
        (_, missing) => Check::failed(
            name,
            format!(
                "{} of {count} not pinned: {} (pins-incomplete)",
                missing.len(),
                missing.join(", ")
            ),
            "reboot: a pin that was removed comes back with the next boot alone",
        ),
    }
}

fn lost(live: &Live) -> Check {
    match guard_status(live).map(|guard| guard.lost) {
        Some(0) => Check::ok("events", "none lost in this boot"),
        Some(lost) => Check::degraded(
            "events",
            format!("{lost} lost in this boot: the denials took place, and are not in the log"),
            "find out who made so many attempts: rempart events; they are counted anew after a reboot",
        ),
        None => Check::unseen("events", "nobody tells", "see the guard's line"),
    }
}

fn gate(live: &Live, system: &System) -> Check {
    let name = "gate";
    let state = |unit: &str| system.units.get(unit).unwrap_or(&Seen::Absent);
    let unlocked = live
        .agent
        .as_ref()
        .is_ok_and(|status| status.state == Node::Unlocked.word());
    match (state("rempart-gate.service"), state("rempart-unlocked.target")) {
        (Seen::Hidden(why), _) | (_, Seen::Hidden(why)) => {
            Check::unseen(name, why, "check: systemctl is-system-running")
        }
        (_, Seen::Is(target)) if target == "active" => Check::ok(name, "open: rempart-unlocked.target is reached"),
        (Seen::Is(gate), _) if gate == "failed" => Check::failed(
            name,
            "rempart-gate.service has failed: the node was refused, and no unit that opted in starts",
            "after rempart attest has unlocked the node: systemctl start rempart-unlocked.target, then the units",
        ),
        (Seen::Is(gate), _) if gate == "activating" => Check::degraded(
            name,
            "closed: units that opted in wait for the node to be unlocked",
            "see the agent's line",
        ),
        _ if live.units.wrapped.is_empty() => Check::note(name, "no unit has opted in, so nothing waits for it"),
        _ if unlocked => Check::note(
            name,
            "nothing has asked for it yet: the next unit that opted in opens it",
        ),
        _ => Check::degraded(name, "closed: units that opted in do not start", "see the agent's line"),
    }
}

fn audit(log: &Seen<super::facts::Audit>) -> Check {
    let name = "audit log";
    let log = match log {
        Seen::Is(log) => log,
        Seen::Absent => {
            return Check::note(name, "no /var/lib/rempart/audit.jsonl: the agent has not run yet");
        }
        Seen::Hidden(why) => return Check::unseen(name, why, "run this as root"),
    };
    let remedy = "keep the file as evidence and ask the Verifier's operator which head was attested last; then: journalctl -u rempartd";
    match (&log.broken, log.has_head) {
        (Some(why), _) => Check::failed(name, why, remedy),
        (None, Some(false)) => Check::failed(
            name,
            format!(
                "{} entries that follow each other, and the agent's head is not among them: the file was put there",
                log.entries
            ),
            remedy,
        ),
        (None, Some(true)) => Check::ok(name, format!("{} entries, whole, with the agent's head", log.entries)),
        (None, None) => Check::ok(
            name,
            format!(
                "{} entries, whole; without the agent its end cannot be compared",
                log.entries
            ),
        ),
    }
}

fn leases(status: &Status) -> Check {
    let waiting: Vec<String> = status
        .leases
        .iter()
        .filter_map(|held| {
            held.waits_for_start
                .as_ref()
                .map(|why| format!("{} ({why})", held.unit))
        })
        .collect();
    if !waiting.is_empty() {
        return Check::degraded(
            "leases",
            format!("waiting for a new start: {}", waiting.join(", ")),
            "systemctl restart it, or rempart rotate UNIT, before its secrets end",
        );
    }
    let count: usize = status.leases.iter().map(|held| held.leases).sum();
    let first = status.leases.iter().filter_map(|held| held.ends_in_s).min();
    let ends = first
        .map(|s| format!(", the first ends in {s} s unless renewed"))
        .unwrap_or_default();
    Check::ok("leases", format!("{count} of {} units{ends}", status.leases.len()))
}

fn offline(status: &Status) -> Check {
    let used: Vec<String> = status
        .offline
        .iter()
        .filter(|kept| kept.used)
        .map(|kept| format!("{} with values of {} s ago", kept.unit, kept.age_s))
        .collect();
    if !used.is_empty() {
        return Check::degraded(
            "sealed copies",
            format!("the vault was away: {}", used.join(", ")),
            "bring the vault back, then: rempart rotate UNIT",
        );
    }
    let sealed = status.offline.iter().filter(|kept| kept.sealed).count();
    Check::ok(
        "sealed copies",
        format!(
            "{sealed} sealed to the TPM, {} in memory, none in use",
            status.offline.len() - sealed
        ),
    )
}

/// One line a unit; what could not be looked at is told once.
fn units(live: &Live) -> Vec<Check> {
    let survey = &live.units;
    let wrong = |unit: &str| survey.findings.iter().any(|finding| finding.unit == unit);
    let mut checks: Vec<Check> = survey
        .findings
        .iter()
        .map(|finding| {
            let place = match (&finding.file, finding.line) {
                (Some(file), Some(line)) => format!("{file}:{line}: "),
                (Some(file), None) => format!("{file}: "),
                _ => String::new(),
            };
            Check::failed("unit", format!("{place}{}", finding.what), finding.remedy.clone()).of(&finding.unit)
        })
        .collect();
    let well = survey.wrapped.iter().filter(|unit| !wrong(unit));
    checks.extend(well.map(|unit| match survey.skipped.is_empty() {
        true => Check::ok("unit", "wrapped, as systemd will run it and the agent has recorded it").of(unit),
        false => Check::note("unit", "its files wrap it").of(unit),
    }));
    if !survey.wrapped.is_empty() || !survey.findings.is_empty() {
        let skipped = survey.skipped.iter();
        checks.extend(skipped.map(|what| Check::unseen("unit", what, "run this as root, with the agent running")));
    }
    if checks.is_empty() {
        checks.push(Check::note("unit", "no service has opted in: see rempart wrap"));
    }
    checks
}

#[cfg(test)]
pub mod tests {
    use rempart_api::guard::{Lift, Program};

    use super::{
        super::{check::State, facts::Audit, installed::tests::good_system},
        *,
    };
    use crate::units::validate::{Finding, Survey};

    const NOW: u64 = 1_800_000_000;

    /// The same, with all that an attestation shows.
    pub fn judged() -> Status {
        let mut told = status();
        told.attestation = serde_json::from_value(serde_json::json!({
            "tpm": {"bank": "sha256", "active_banks": ["sha256"], "certified_endorsement_keys": ["rsa-2048"]},
            "tee": {"why": "no device"}, "result": {"clock_ahead_s": 0},
        }))
        .expect("as the agent tells");
        told
    }

    /// Of an agent that has unlocked the node.
    pub fn status() -> Status {
        serde_json::from_value(serde_json::json!({
            "node": "n", "state": "unlocked", "reason": "", "unlocked_until_us": (NOW + 125) * 1_000_000, "roles": ["web"],
            "degraded": "refuse", "memory": {"secret": true}, "units": [], "audit_head": "00",
            "guard": {"v": 1, "enforcing": true, "why": null, "armed": true, "lost": 0, "sealed": 12, "tpm_exclusive": true,
                "programs": [{"name": "task_kill", "attached": true}, {"name": "ptrace", "attached": true}]},
        }))
        .expect("as the agent tells")
    }

    fn live() -> Live {
        Live {
            agent: Ok(Box::new(status())),
            guard: Seen::Absent,
            pins: Seen::Is(vec!["link_task_kill".into(), "link_ptrace".into(), "map_config".into()]),
            audit: Seen::Is(Audit {
                entries: 7,
                broken: None,
                has_head: Some(true),
            }),
            units: Survey::default(),
        }
    }

    fn with(change: impl FnOnce(&mut Status)) -> Live {
        let mut live = live();
        if let Ok(status) = &mut live.agent {
            change(status);
        }
        live
    }

    #[test]
    fn a_node_that_is_unlocked_and_guarded_is_well() {
        let live = live();
        let told = live.agent.as_ref().expect("told");
        for check in [
            agent(&live, NOW),
            memory(told).expect("told"),
            guard_check(&live),
            pins(&live),
            lost(&live),
            gate(&live, &good_system()),
            audit(&live.audit),
            leases(told),
            offline(told),
        ] {
            assert_eq!(check.state, State::Ok, "{check:?}");
        }
        assert!(agent(&live, NOW).found.contains("2 min 5 s"));
    }

    #[test]
    fn each_state_of_the_agent_is_told_apart() {
        let state = |word: &str| agent(&with(|status| status.state = word.into()), NOW).state;
        assert_eq!(state("attesting"), State::Degraded);
        assert_eq!(state("booting"), State::Degraded);
        assert_eq!(state("locked"), State::Failed);
        assert_eq!(state("of a later release"), State::Failed);
        let running = with(|status| {
            status.state = "locked".into();
            status.not_stopped = vec!["web.service".into()];
        });
        assert!(agent(&running, NOW).found.contains("web.service"));
        let away = Live {
            agent: Err("the agent does not answer".into()),
            ..live()
        };
        assert_eq!(agent(&away, NOW).state, State::Failed);
        let ordinary = with(|status| {
            status.memory = serde_json::from_value(serde_json::json!({"secret": false, "why": "limit"})).ok();
        });
        let check = memory(ordinary.agent.as_ref().expect("told")).expect("told");
        assert!(check.state == State::Failed && check.found.contains("limit"));
    }

    #[test]
    fn each_weakness_of_the_guard_is_told_apart() {
        let state = |change: fn(&mut guard::Status)| guard_check(&with(|status| change(&mut status.guard))).state;
        assert_eq!(state(|guard| guard.enforcing = false), State::Failed);
        assert_eq!(state(|guard| guard.lifted = vec![Lift::Files]), State::Failed);
        assert_eq!(
            state(|guard| guard.why = Some("hooks-missing: x".into())),
            State::Degraded
        );
        assert_eq!(
            state(|guard| guard.missing_vectors = vec!["KCMP".into()]),
            State::Degraded
        );
        assert_eq!(state(|guard| guard.programs[0].attached = false), State::Degraded);
        assert_eq!(state(|guard| guard.armed = false), State::Degraded);
        assert_eq!(state(|guard| guard.files_observed = true), State::Degraded);
        assert_eq!(lost(&with(|status| status.guard.lost = 3)).state, State::Degraded);
    }

    #[test]
    fn without_the_agent_the_guard_is_asked_itself() {
        let away = |guard| Live {
            agent: Err("away".into()),
            guard,
            ..live()
        };
        let own = Seen::Is(status().guard);
        assert_eq!(guard_check(&away(own.clone())).state, State::Ok);
        assert_eq!(
            (pins(&away(own.clone())).state, lost(&away(own)).state),
            (State::Ok, State::Ok)
        );
        assert_eq!(guard_check(&away(Seen::Absent)).state, State::Failed);
        let hidden = away(Seen::Hidden("only root may look".into()));
        assert_eq!(
            (guard_check(&hidden).state, pins(&hidden).state, lost(&hidden).state),
            (State::Unseen, State::Unseen, State::Unseen)
        );
    }

    #[test]
    fn a_pin_that_is_gone_is_found() {
        let state = |seen| {
            let live = Live { pins: seen, ..live() };
            pins(&live)
        };
        let gone = state(Seen::Is(vec!["link_ptrace".into()]));
        assert!(
            gone.state == State::Failed && gone.found.contains("task_kill"),
            "{gone:?}"
        );
        assert_eq!(state(Seen::Absent).state, State::Failed);
        assert_eq!(state(Seen::Hidden("x".into())).state, State::Unseen);
        let detached = with(|status| {
            status
                .guard
                .programs
                .iter_mut()
                .for_each(|program| program.attached = false)
        });
        assert_eq!(pins(&detached).state, State::Failed);
        let unknown = with(|status| status.guard.programs = Vec::<Program>::new());
        assert_eq!(pins(&unknown).state, State::Unseen);
    }

    #[test]
    fn the_gate_is_open_closed_or_nobodys() {
        let check = |gate_state: Seen<String>, target: Seen<String>, word: &str, units: &[&str]| {
            let mut system = good_system();
            system.units.insert("rempart-gate.service", gate_state);
            system.units.insert("rempart-unlocked.target", target);
            let mut live = with(|status| status.state = word.into());
            live.units.wrapped = units.iter().map(|unit| (*unit).to_owned()).collect();
            gate(&live, &system).state
        };
        let is = |word: &str| Seen::Is(word.to_owned());
        assert_eq!(check(is("active"), is("active"), "unlocked", &["a.service"]), State::Ok);
        assert_eq!(
            check(is("failed"), is("inactive"), "locked", &["a.service"]),
            State::Failed
        );
        assert_eq!(
            check(is("activating"), is("inactive"), "attesting", &["a.service"]),
            State::Degraded
        );
        assert_eq!(
            check(Seen::Absent, Seen::Absent, "locked", &["a.service"]),
            State::Degraded
        );
        assert_eq!(
            check(Seen::Absent, Seen::Absent, "unlocked", &["a.service"]),
            State::Note
        );
        assert_eq!(check(Seen::Absent, Seen::Absent, "locked", &[]), State::Note);
        assert_eq!(
            check(Seen::Hidden("x".into()), Seen::Absent, "locked", &[]),
            State::Unseen
        );
    }

    #[test]
    fn a_log_that_was_cut_or_replaced_is_found() {
        let log = |broken: Option<&str>, has_head| {
            let log = Audit {
                entries: 7,
                broken: broken.map(str::to_owned),
                has_head,
            };
            audit(&Seen::Is(log)).state
        };
        assert_eq!(log(Some("line 3 does not follow"), Some(true)), State::Failed);
        assert_eq!(log(None, Some(false)), State::Failed);
        assert_eq!(log(None, None), State::Ok);
        assert_eq!(audit(&Seen::Absent).state, State::Note);
        assert_eq!(audit(&Seen::Hidden("x".into())).state, State::Unseen);
    }

    #[test]
    fn units_that_wait_or_live_on_kept_values_are_told_of() {
        let mut told = status();
        told.leases = serde_json::from_value(serde_json::json!([
            {"unit": "a.service", "leases": 2, "ends_in_s": 90, "waits_for_start": null}
        ]))
        .expect("leases");
        assert!(leases(&told).state == State::Ok && leases(&told).found.contains("90 s"));
        told.leases[0].waits_for_start = Some("OnRotate=none".into());
        assert!(leases(&told).state == State::Degraded && leases(&told).found.contains("a.service"));
        told.offline = serde_json::from_value(serde_json::json!([
            {"unit": "b.service", "age_s": 60, "used": false, "sealed": true}
        ]))
        .expect("kept");
        assert!(offline(&told).state == State::Ok && offline(&told).found.starts_with("1 sealed"));
        told.offline[0].used = true;
        assert!(offline(&told).state == State::Degraded && offline(&told).found.contains("b.service"));
    }

    #[test]
    fn each_unit_has_its_line_and_what_was_not_seen_has_one_more() {
        let check = |survey| {
            let live = Live {
                units: survey,
                ..live()
            };
            units(&live)
                .iter()
                .map(|check| (check.state, check.subject.clone()))
                .collect::<Vec<_>>()
        };
        let survey = |skipped: &[&str]| Survey {
            wrapped: vec!["a.service".into(), "b.service".into()],
            findings: vec![Finding::of_unit(
                "b.service",
                "it is loaded without the wrapper",
                "systemctl daemon-reload",
            )],
            skipped: skipped.iter().map(|what| (*what).to_owned()).collect(),
        };
        let named = |name: &str| Some(name.to_owned());
        assert_eq!(
            check(survey(&[])),
            [(State::Failed, named("b.service")), (State::Ok, named("a.service"))]
        );
        assert_eq!(
            check(survey(&["what systemd has loaded"])),
            [
                (State::Failed, named("b.service")),
                (State::Note, named("a.service")),
                (State::Unseen, None)
            ]
        );
        assert_eq!(check(Survey::default()), [(State::Note, None)]);
    }
}
