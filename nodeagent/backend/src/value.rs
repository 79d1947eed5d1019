//! A value as it is kept, and as a unit gets it.

use base64::{Engine, prelude::BASE64_STANDARD};
use rempart_core::reference::{Encoding, Reference};
use rempart_secret::SecretBytes;

use crate::BackendError;

/// Longest value, in bytes.
const MAX_VALUE: usize = 1 << 20;

/// `written`, of `reference`, as `server` keeps it, in the form that the unit gets.
pub(crate) fn decoded(server: &str, reference: &Reference, written: SecretBytes) -> Result<SecretBytes, BackendError> {
    let unfit = |why: String| BackendError::Unfit {
        server: server.to_owned(),
        reference: reference.to_string(),
        why,
    };
    let value = match reference.encoding() {
        Encoding::Plain => written,
        Encoding::Base64 => {
            let text = written.expose().trim_ascii();
            let mut out = vec![0; base64::decoded_len_estimate(text.len())];
            match BASE64_STANDARD.decode_slice(text, &mut out) {
                Ok(len) => {
                    out.truncate(len);
                    SecretBytes::new(out)
                }
                Err(_) => {
                    drop(SecretBytes::new(out));
                    return Err(unfit("it is not base64".into()));
                }
            }
        }
    };
    if value.len() > MAX_VALUE {
        return Err(unfit(format!(
            "it has {} bytes, at most {MAX_VALUE} can be delivered",
            value.len()
        )));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(reference: &str, written: &[u8]) -> Result<Vec<u8>, String> {
        let reference = reference.parse().expect("a reference");
        decoded("vault", &reference, SecretBytes::new(written.to_vec()))
            .map(|value| value.expose().clone())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn base64_becomes_bytes_and_all_else_stays() {
        assert_eq!(value("kv/a#b", b"AAE=").as_deref(), Ok(&b"AAE="[..]));
        assert_eq!(
            value("kv/a?encoding=base64#b", b"AAECAw==\n").as_deref(),
            Ok(&[0, 1, 2, 3][..])
        );
        let error = value("kv/a?encoding=base64#b", b"hunter2!").expect_err("no base64");
        assert!(error.contains("not base64") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_mebibyte_is_delivered_and_no_more() {
        assert!(value("kv/a#b", &vec![7; MAX_VALUE]).is_ok());
        assert!(value("kv/a#b", &vec![7; MAX_VALUE + 1]).is_err());
    }
}
