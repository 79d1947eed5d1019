//! Which bytes of a value are secret. In PEM (RFC 7468) the private keys are, behind the part of their encoding that all keys of a kind
//! have in common; of a URL (RFC 3986) with a password, the password is.

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
/// Characters of a line of PEM.
const LINE: usize = 64;
/// Characters of a key of one line that tell its kind: the longest is that of X25519 and Ed25519, 16 bytes in base64.
const KIND: usize = 22;

/// The secret parts, in their order; none in a value that has only public ones.
pub(super) fn secret_parts(value: &[u8]) -> Vec<&[u8]> {
    let value = value.trim_ascii();
    if position(value, BEGIN).is_some() {
        return private_keys(value);
    }
    vec![password_of_url(value).unwrap_or(value)]
}

fn private_keys(mut rest: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    while let Some(begin) = position(rest, BEGIN) {
        rest = &rest[begin + BEGIN.len()..];
        let Some(label) = position(rest, b"-----") else { break };
        let is_private = position(&rest[..label], b"PRIVATE KEY").is_some();
        let body = rest[label + 5..].trim_ascii_start();
        let end = position(body, END).unwrap_or(body.len());
        let (body, behind) = body.split_at(end);
        if is_private {
            let body = body.trim_ascii_end();
            let common = if body.len() > LINE { LINE } else { KIND };
            parts.push(&body[common.min(body.len())..]);
        }
        rest = behind;
    }
    parts
}

/// `scheme://user:PASSWORD@host…`
fn password_of_url(value: &[u8]) -> Option<&[u8]> {
    let scheme = position(value, b"://")?;
    if !value[..scheme]
        .iter()
        .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(b))
    {
        return None;
    }
    let rest = &value[scheme + 3..];
    let authority = &rest[..rest.iter().position(|b| b"/?#".contains(b)).unwrap_or(rest.len())];
    let user = &authority[..authority.iter().rposition(|b| *b == b'@')?];
    Some(&user[user.iter().position(|b| *b == b':')? + 1..])
}

fn position(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(value: &str) -> Vec<&str> {
        let text = |part| std::str::from_utf8(part).expect("text");
        secret_parts(value.as_bytes()).into_iter().map(text).collect()
    }

    #[test]
    fn of_a_url_the_password_is_secret() {
        assert_eq!(parts("postgres://app:p@ss:w0rd@db.internal:5432/app"), ["p@ss:w0rd"]);
        assert_eq!(parts("https://example.org/a@b:c"), ["https://example.org/a@b:c"]);
        assert_eq!(parts(" a b://c:d@e \n"), ["a b://c:d@e"]);
    }

    #[test]
    fn of_pem_the_private_keys_are_secret_behind_what_all_have_in_common() {
        let line = "x".repeat(64);
        let chain = format!(
            "-----BEGIN CERTIFICATE-----\n{line}\n{line}\n-----END CERTIFICATE-----\n\
             -----BEGIN PRIVATE KEY-----\n{line}\nsecond\n-----END PRIVATE KEY-----\n"
        );
        assert_eq!(parts(&chain), ["\nsecond"]);
        let short = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAseed\n-----END PRIVATE KEY-----";
        assert_eq!(parts(short), ["seed"]);
        assert_eq!(
            parts("-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----"),
            [""; 0]
        );
        assert_eq!(parts("-----BEGIN x"), [""; 0]);
    }
}
