//! TPM2_GetCapability for what a TPM says of its own state (TPM 2.0 Library, part 3, 30.2): 22 bytes that change nothing.
//!
//! Must never be sent where the guard keeps the TPM for the agent: a refusal would be an attempt in the log.

/// TPM_ST_NO_SESSIONS, the size, TPM_CC_GetCapability, TPM_CAP_TPM_PROPERTIES, TPM_PT_PERMANENT, and as many properties as are wanted.
pub const QUESTION: [u8; 22] = [
    0x80, 0x01, 0, 0, 0, 22, 0, 0, 0x01, 0x7a, 0, 0, 0, 6, 0, 0, 0x02, 0x00, 0, 0, 0, 18,
];
/// Longest answer to it: the header and 18 properties.
pub const MOST: usize = 19 + 18 * 8;

/// Where the properties begin: header, moreData, capability.
const LIST_AT: usize = 15;
/// TPM_PT_PERMANENT
const PERMANENT: u32 = 0x200;
/// TPM_PT_LOCKOUT_COUNTER
const FAILURES: u32 = 0x20e;
/// TPM_PT_MAX_AUTH_FAIL
const MOST_FAILURES: u32 = 0x20f;
/// TPM_PT_LOCKOUT_INTERVAL
const INTERVAL: u32 = 0x210;

/// What it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permanent {
    /// Its owner has a password.
    pub owner_auth: bool,
    /// Who resets the lockout has a password.
    pub lockout_auth: bool,
    /// It refuses what is protected against guessing.
    pub in_lockout: bool,
    /// Wrong guesses so far.
    pub failures: u32,
    /// Wrong guesses at which it locks.
    pub most_failures: u32,
    /// Seconds after which one is forgotten.
    pub interval_s: u32,
}

impl Permanent {
    /// From an answer; an error says what is wrong with it.
    pub fn parse(answer: &[u8]) -> Result<Self, String> {
        let word = |at: usize| {
            let bytes = answer.get(at..at + 4)?;
            Some(u32::from_be_bytes(bytes.try_into().ok()?))
        };
        let short = || "its answer is cut short".to_owned();
        match word(6).ok_or_else(short)? {
            0 => {}
            code => return Err(format!("the TPM refuses to tell its state ({code:#x})")),
        }
        let count = word(LIST_AT).ok_or_else(short)?;
        let mut properties = (0..count.min(18) as usize).map(|index| {
            let at = LIST_AT + 4 + index * 8;
            word(at).zip(word(at + 4))
        });
        let properties: Vec<(u32, u32)> = properties.by_ref().collect::<Option<_>>().ok_or_else(short)?;
        let property = |tag| {
            properties
                .iter()
                .find(|(name, _)| *name == tag)
                .map(|(_, value)| *value)
        };
        let bits = property(PERMANENT).ok_or("the TPM does not tell its state")?;
        // TPMA_PERMANENT (part 2, 8.6).
        Ok(Self {
            owner_auth: bits & 1 != 0,
            lockout_auth: bits & 1 << 2 != 0,
            in_lockout: bits & 1 << 9 != 0,
            failures: property(FAILURES).unwrap_or_default(),
            most_failures: property(MOST_FAILURES).unwrap_or_default(),
            interval_s: property(INTERVAL).unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: u32, properties: &[(u32, u32)]) -> Vec<u8> {
        let mut answer = vec![0x80, 0x01];
        answer.extend((19 + 8 * properties.len() as u32).to_be_bytes());
        answer.extend(code.to_be_bytes());
        answer.push(0);
        answer.extend(6_u32.to_be_bytes());
        answer.extend((properties.len() as u32).to_be_bytes());
        for (tag, value) in properties {
            answer.extend(tag.to_be_bytes());
            answer.extend(value.to_be_bytes());
        }
        answer
    }

    #[test]
    fn a_lockout_and_passwords_are_read() {
        let told = answer(0, &[(0x200, 0b10_0000_0001), (0x20e, 3), (0x20f, 32), (0x210, 600)]);
        let state = Permanent::parse(&told).expect("whole");
        assert!(state.owner_auth && state.in_lockout && !state.lockout_auth);
        assert_eq!((state.failures, state.most_failures, state.interval_s), (3, 32, 600));
        assert!(told.len() <= MOST);
    }

    #[test]
    fn the_answer_of_a_software_tpm_is_read() {
        // swtpm 0.7.1, to these very bytes.
        let recorded = "8001000000a3000000000100000006000000120000020000000400000002018000000f00000202000000000000020300000000000002040000\
             000300000205000000000000020600000040000002070000000300000208000000000000020900000041000002\
             0a000000000000020b000000190000020c000000000000020d000000080000020e000000000000020f0000000300000210000003e800000211000003e8";
        let digit = |at: usize| u8::from_str_radix(&recorded[at..at + 2], 16).expect("hexadecimal");
        let answer: Vec<u8> = (0..recorded.len()).step_by(2).map(digit).collect();
        assert_eq!(answer.len(), MOST);
        let wanted = Permanent {
            owner_auth: false,
            lockout_auth: false,
            in_lockout: false,
            failures: 0,
            most_failures: 3,
            interval_s: 1000,
        };
        assert_eq!(Permanent::parse(&answer), Ok(wanted));
    }

    #[test]
    fn an_error_and_an_answer_that_is_cut_short_are_no_state() {
        assert!(
            Permanent::parse(&answer(0x101, &[]))
                .expect_err("an error")
                .contains("0x101")
        );
        assert!(Permanent::parse(&answer(0, &[(0x20e, 3)])).is_err(), "not the state");
        let whole = answer(0, &[(0x200, 0)]);
        for len in 0..whole.len() {
            assert!(Permanent::parse(&whole[..len]).is_err(), "{len}");
        }
    }
}
