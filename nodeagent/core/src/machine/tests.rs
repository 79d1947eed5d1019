use super::*;

const PACE: Pace = Pace {
    interval: Duration::from_secs(600),
    lease: Duration::from_secs(1260),
};

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn refused(held: bool) -> Input {
    Input::Refused {
        why: "PCR 9 differs".into(),
        held,
    }
}

fn run(inputs: &[(u64, Input)]) -> (State, Vec<Action>) {
    let mut state = State::Booting;
    let mut last = Vec::new();
    for (second, input) in inputs {
        (state, last) = state.step(at(*second), PACE, 0, input.clone());
    }
    (state, last)
}

#[test]
fn nothing_is_released_before_a_grant() {
    assert!(State::Booting.may_release(at(0)).is_err());
    let (state, actions) = run(&[(0, Input::Start)]);
    assert!(state.may_release(at(0)).is_err());
    assert!(actions.contains(&Action::Attest));
    let (state, _) = run(&[(0, Input::Start), (1, Input::Unreachable("connection refused".into()))]);
    assert!(
        state
            .may_release(at(1))
            .expect_err("closed")
            .contains("connection refused")
    );
}

#[test]
fn a_grant_before_the_start_is_ignored() {
    assert_eq!(run(&[(0, Input::Granted)]).0, State::Booting);
}

#[test]
fn a_grant_unlocks_until_its_end_and_not_longer() {
    let (state, _) = run(&[(0, Input::Start), (5, Input::Granted)]);
    assert!(state.may_release(at(6)).is_ok());
    assert!(state.may_release(at(5 + 1260)).is_err());
}

#[test]
fn a_refusal_is_latched_until_an_operator_asks() {
    let refused = [(0, Input::Start), (5, Input::Granted), (6, refused(false))];
    let (state, actions) = run(&refused);
    assert!(actions.contains(&Action::Forget));
    assert!(state.may_release(at(6)).expect_err("closed").contains("PCR 9"));
    let (state, actions) = state.step(at(7), PACE, 0, Input::Granted);
    assert!(matches!(state, State::Locked { latch: Latch::Node, .. }));
    assert!(actions.is_empty());
    let (state, actions) = state.step(at(8), PACE, 0, Input::OperatorAttest);
    assert!(state.may_release(at(8)).is_err());
    assert!(actions.contains(&Action::Attest));
}

#[test]
fn an_unreachable_verifier_locks_only_when_the_lease_ends() {
    let (state, _) = run(&[
        (0, Input::Start),
        (5, Input::Granted),
        (600, Input::Unreachable("timed out".into())),
    ]);
    assert!(state.may_release(at(601)).is_ok());
    let (state, actions) = state.step(at(1265), PACE, 0, Input::Tick);
    assert!(matches!(&state, State::Locked { latch: Latch::None, why } if why.contains("timed out")));
    assert!(actions.contains(&Action::Forget));
    let (state, _) = state.step(at(1300), PACE, 0, Input::Granted);
    assert!(state.may_release(at(1301)).is_ok());
}

#[test]
fn an_operators_question_to_an_absent_verifier_takes_nothing_away() {
    let (state, actions) = run(&[
        (0, Input::Start),
        (5, Input::Granted),
        (6, Input::OperatorAttest),
        (7, Input::Unreachable("timed out".into())),
    ]);
    assert!(state.may_release(at(8)).is_ok() && state.reason().contains("timed out"));
    assert!(matches!(actions.as_slice(), [Action::AttestAfter(_)]));
    let (state, _) = state.step(at(9), PACE, 0, refused(false));
    assert!(state.may_release(at(9)).is_err());
}

#[test]
fn retries_grow_and_are_bounded() {
    assert_eq!(retry(0, 0), at(1));
    assert_eq!(retry(3, 0), at(8));
    assert_eq!(retry(u32::MAX, 0), RETRY_MAX);
    let earliest = retry(u32::MAX, 999);
    assert!(earliest < RETRY_MAX && earliest >= RETRY_MAX / 2, "{earliest:?}");
}

#[test]
fn a_node_that_the_verifier_holds_asks_once_an_interval_and_unlocks_when_it_is_cleared() {
    let (state, actions) = run(&[(0, Input::Start), (5, Input::Granted), (6, refused(true))]);
    assert!(state.may_release(at(6)).is_err() && actions.contains(&Action::Forget));
    assert!(actions.contains(&Action::AttestAfter(PACE.interval)) && actions.contains(&Action::Announce));
    let (state, actions) = state.step(at(606), PACE, 0, refused(true));
    assert!(!actions.contains(&Action::Announce), "once is enough: {actions:?}");
    assert!(actions.contains(&Action::AttestAfter(PACE.interval)));
    let (state, actions) = state.step(at(1206), PACE, 0, Input::Unreachable("timed out".into()));
    assert_eq!(actions, [Action::AttestAfter(PACE.interval)]);
    assert!(state.reason().contains("PCR 9"), "silence is not news");
    let (state, actions) = state.step(at(1806), PACE, 0, Input::Granted);
    assert!(state.may_release(at(1807)).is_ok() && actions.contains(&Action::Announce));
}

#[test]
fn a_refusal_of_another_kind_after_a_hold_is_for_the_nodes_operator() {
    let (state, actions) = run(&[(0, Input::Start), (6, refused(true)), (606, refused(false))]);
    assert!(matches!(state, State::Locked { latch: Latch::Node, .. }));
    assert!(
        !actions
            .iter()
            .any(|action| matches!(action, Action::AttestAfter(_) | Action::Attest))
    );
}

#[test]
fn an_operators_lock_outlives_the_verifiers_grant_and_a_resume() {
    let (state, _) = run(&[(0, Input::Start), (6, refused(true)), (7, Input::OperatorLock)]);
    for input in [Input::Granted, Input::Resumed, Input::PolicyChanged, Input::Tick] {
        let (after, actions) = state.clone().step(at(8), PACE, 0, input);
        assert_eq!((&after, actions.is_empty()), (&state, true));
    }
}

#[test]
fn a_machine_that_slept_attests_at_once_and_has_a_minute_for_it() {
    let (state, actions) = run(&[(0, Input::Start), (5, Input::Granted), (100, Input::Resumed)]);
    assert!(actions.contains(&Action::Attest));
    assert!(state.may_release(at(159)).is_ok());
    assert!(state.may_release(at(160)).is_err());
    let (slept_longer, _) = run(&[(0, Input::Start), (5, Input::Granted), (1300, Input::Resumed)]);
    assert!(
        slept_longer.may_release(at(1300)).is_err(),
        "the lease ended in its sleep"
    );
    let (state, _) = state.step(at(101), PACE, 0, Input::Granted);
    assert!(state.may_release(at(1300)).is_ok());
}

#[test]
fn a_new_policy_is_asked_about_soon_and_not_by_all_at_once() {
    let unlocked = [(0, Input::Start), (5, Input::Granted)];
    let wait = |jitter| match run(&unlocked).0.step(at(6), PACE, jitter, Input::PolicyChanged).1[..] {
        [Action::AttestWithin(wait)] => wait,
        ref other => panic!("{other:?}"),
    };
    assert_eq!(wait(0), Duration::ZERO);
    assert!(wait(999) > wait(500) && wait(999) < POLICY_SPREAD);
}

#[test]
fn a_lapse_is_forgotten_whatever_tells_of_it_first() {
    for input in [Input::Tick, Input::Unreachable("timed out".into()), Input::Resumed] {
        let (state, _) = run(&[(0, Input::Start), (5, Input::Granted)]);
        let (state, actions) = state.step(at(5 + 1260), PACE, 0, input.clone());
        assert!(matches!(state, State::Locked { latch: Latch::None, .. }));
        assert!(
            actions.contains(&Action::Forget) && actions.contains(&Action::Announce),
            "{input:?}"
        );
        let asks = |action: &Action| matches!(action, Action::Attest | Action::AttestAfter(_));
        assert!(actions.iter().any(asks), "{input:?}");
    }
}
