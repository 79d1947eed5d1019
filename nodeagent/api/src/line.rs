//! JSON lines: the framing of both sockets. One object a line, UTF-8, ended by `\n`.
//!
//! Must never allocate by a length that the peer chose: a line longer than [`MAX_LINE`] is an error.

use serde::{Serialize, de::DeserializeOwned};

/// Longest line accepted, in bytes with its line feed. A reply for 500 secrets is about 40 KiB.
pub const MAX_LINE: usize = 64 * 1024;

/// Why a line is not a message.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The peer sent more than [`MAX_LINE`] bytes without a line feed.
    #[error("peer sent a line of more than {MAX_LINE} bytes")]
    PeerLineTooLong,
    /// The peer closed the connection before the line was complete.
    #[error("peer closed the connection before its message was complete")]
    PeerClosed,
    /// The peer's line is not the expected JSON object.
    #[error("peer sent a malformed message: {0}")]
    PeerMalformed(#[source] serde_json::Error),
    /// Reading or writing failed.
    #[error("cannot talk to the peer: {0}")]
    Io(#[from] std::io::Error),
}

/// `message` as one line, line feed included.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, LineError> {
    let mut line = serde_json::to_vec(message).map_err(LineError::PeerMalformed)?;
    line.push(b'\n');
    Ok(line)
}

/// The message in `line` (with or without its line feed).
pub fn decode<T: DeserializeOwned>(line: &[u8]) -> Result<T, LineError> {
    if line.len() > MAX_LINE {
        return Err(LineError::PeerLineTooLong);
    }
    serde_json::from_slice(line).map_err(LineError::PeerMalformed)
}

/// Reads one line from a blocking stream, byte by byte so that nothing behind it is consumed.
pub fn read(stream: &mut impl std::io::Read) -> Result<Vec<u8>, LineError> {
    let mut line = Vec::new();
    let mut byte = [0u8; 1];
    loop {
        if stream.read(&mut byte)? == 0 {
            return Err(LineError::PeerClosed);
        }
        if byte[0] == b'\n' {
            return Ok(line);
        }
        if line.len() + 1 >= MAX_LINE {
            return Err(LineError::PeerLineTooLong);
        }
        line.push(byte[0]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_an_end_is_refused_at_the_maximum() {
        let endless = vec![b'x'; MAX_LINE * 2];
        assert!(matches!(read(&mut &endless[..]), Err(LineError::PeerLineTooLong)));
    }

    #[test]
    fn a_cut_line_is_refused() {
        assert!(matches!(read(&mut &b"{\"v\":1"[..]), Err(LineError::PeerClosed)));
    }
}
