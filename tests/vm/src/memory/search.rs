//! The search of all memory, for values that are known and for tokens and results, which are known by their form.
//!
//! A copy over the end of a frame is found where the next frame is also the next in memory.

use aho_corasick::AhoCorasick;

use super::{Frame, Memory, PAGE};

/// Shortest part of a result: header or claims in base64url.
const PART: usize = 20;

/// What to look for.
#[derive(Debug, Clone)]
pub enum Needle {
    /// These bytes.
    Bytes(Vec<u8>),
    /// A token of the vault: `s.` and 24 letters and digits, or `hvs.` and more.
    VaultToken,
    /// A JSON Web Token (RFC 7519), which is what an Attestation Result is.
    WebToken,
}

/// A copy.
pub struct Found {
    /// Which needle, by its place in the list.
    pub needle: usize,
    /// Where its first byte lies.
    pub frame: Frame,
    /// Where in the frame.
    pub offset: usize,
    /// What lies there: the value itself. Not to be printed.
    pub bytes: Vec<u8>,
}

/// All copies.
pub fn find(memory: &Memory, needles: &[Needle]) -> anyhow::Result<Vec<Found>> {
    let mut words: Vec<(usize, &[u8])> = Vec::new();
    for (index, needle) in needles.iter().enumerate() {
        match needle {
            Needle::Bytes(bytes) => words.push((index, bytes)),
            Needle::VaultToken => words.extend([&b"s."[..], b"hvs."].map(|word| (index, word))),
            Needle::WebToken => words.push((index, b"eyJ")),
        }
    }
    let data = &memory.0;
    let search = AhoCorasick::new(words.iter().map(|(_, word)| word))?;
    let mut copies = Vec::new();
    for hit in search.find_overlapping_iter(data) {
        let (needle, word) = words[hit.pattern().as_usize()];
        let at = hit.start();
        let len = match &needles[needle] {
            Needle::Bytes(bytes) => Some(bytes.len()),
            Needle::VaultToken => vault_token(data, at, word.len()),
            Needle::WebToken => web_token(data, at),
        };
        if let Some(len) = len {
            copies.push(Found {
                needle,
                frame: Frame((at / PAGE) as u64),
                offset: at % PAGE,
                bytes: data[at..at + len].to_vec(),
            });
        }
    }
    Ok(copies)
}

/// Length of the token whose prefix lies at `at`.
fn vault_token(data: &[u8], at: usize, prefix: usize) -> Option<usize> {
    let word = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.".contains(byte);
    let begins = at == 0 || !word(&data[at - 1]);
    let body = &data[at + prefix..];
    let len = body.iter().take(512).take_while(|byte| word(byte)).count();
    let body = &body[..len];
    let form = if prefix == 2 {
        len == 24 && body.iter().all(u8::is_ascii_alphanumeric)
    } else {
        len >= 24
    };
    let random = [u8::is_ascii_lowercase, u8::is_ascii_uppercase, u8::is_ascii_digit];
    (begins && form && random.iter().all(|is| body.iter().any(is))).then_some(prefix + len)
}

/// Length of the header and the claims that begin at `at`, or of what follows of them in memory.
fn web_token(data: &[u8], at: usize) -> Option<usize> {
    let part = |from: usize| {
        let letters = data.get(from..)?.iter().take(PAGE);
        let len = letters
            .take_while(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(byte))
            .count();
        (len >= PART && data[from..].starts_with(b"eyJ")).then_some(len)
    };
    let header = part(at)?;
    let claims = (data.get(at + header) == Some(&b'.')).then(|| part(at + header + 1))??;
    Some(header + 1 + claims)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDLES: [Needle; 2] = [Needle::VaultToken, Needle::WebToken];

    fn found(text: &[u8]) -> Vec<(usize, Vec<u8>)> {
        let copies = find(&Memory(text.to_vec()), &NEEDLES).expect("a search");
        copies.into_iter().map(|copy| (copy.needle, copy.bytes)).collect()
    }

    #[test]
    fn values_are_found_in_their_frames() {
        let mut data = vec![0; 3 * PAGE];
        data[PAGE + 7..PAGE + 12].copy_from_slice(b"value");
        data[2 * PAGE - 2..2 * PAGE + 3].copy_from_slice(b"value");
        let copies = find(&Memory(data), &[Needle::Bytes(b"value".to_vec())]).expect("a search");
        let places: Vec<_> = copies.iter().map(|copy| (copy.frame.0, copy.offset)).collect();
        assert_eq!(places, [(1, 7), (1, PAGE - 2)]);
    }

    #[test]
    fn tokens_are_known_by_their_form() {
        assert_eq!(
            found(b"\"s.abcDEF0123456789ghijKLMN\""),
            [(0, b"s.abcDEF0123456789ghijKLMN".to_vec())]
        );
        assert_eq!(found(b"os.abcDEF0123456789ghijKLMN\""), []);
        assert_eq!(found(b"s.abcdefghijklmnopqrstuvwx\""), []);
        assert_eq!(found(b"s.abcDEF0123456789ghijKLMNO\""), []);
        assert_eq!(found(b" hvs.abcDEF0123456789ghijKLMNO-_zz ").len(), 1);
    }

    #[test]
    fn results_are_known_by_header_and_claims() {
        let token = b"eyJhbGciOiJFUzI1NiIsInR5cCI6.eyJpc3MiOiJodHRwczovL3Zlcmlma.c2ln";
        assert_eq!(found(token), [(1, token[..token.len() - 5].to_vec())]);
        assert_eq!(found(b"eyJhbGciOiJFUzI1NiIsInR5cCI6..c2lnc2lnc2lnc2lnc2lnc2ln"), []);
    }
}
