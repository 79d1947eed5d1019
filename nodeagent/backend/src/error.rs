//! What can go wrong between agent and vault, told apart by what follows from it.

/// Why secrets were not had. Each is one line: what, why, what to do.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// No answer, or none that makes sense now. Trying again may help.
    #[error("{server} does not answer: {why}; check the network and the server, then start the unit again")]
    Unreachable {
        /// Its origin.
        server: String,
        /// One line.
        why: String,
    },
    /// The vault runs and is sealed.
    #[error("{server} is sealed; its owner has to unseal it, then start the unit again")]
    Sealed {
        /// Its origin.
        server: String,
    },
    /// The server looked at the request and said no. Authoritative: nothing older may be used instead.
    #[error("{server} denies {what} under role {role}: {why}; check the role and its policy there")]
    Denied {
        /// Its origin.
        server: String,
        /// What was asked.
        what: String,
        /// Under which role.
        role: String,
        /// One line.
        why: String,
    },
    /// The Verifier does not grant this node the role.
    #[error(
        "the Verifier does not grant this node the role {role} (it grants: {granted}); its operator can add it with rempart-verifier node add"
    )]
    RoleNotGranted {
        /// The unit's role.
        role: String,
        /// What is granted, for the operator.
        granted: String,
    },
    /// There is no such secret.
    #[error("{server} has no secret {reference}; put it there or correct the unit's Secret= line")]
    Absent {
        /// Its origin.
        server: String,
        /// The reference.
        reference: String,
    },
    /// The server is there and is not set up as this agent's configuration says.
    #[error("{server} is not set up as configured: {why}; correct [vault] in /etc/rempart/rempart.toml or the server")]
    Misconfigured {
        /// Its origin.
        server: String,
        /// One line.
        why: String,
    },
    /// The Verifier granted a result and no client certificate.
    #[error(
        "the Verifier issued no client certificate, which vault.auth = \"cert\" needs; bring it to this node's release or set vault.auth = \"jwt\""
    )]
    NoCertificate,
    /// What is there cannot be given to a unit.
    #[error("{reference} at {server} cannot be delivered: {why}; correct it there or the unit's Secret= line")]
    Unfit {
        /// Its origin.
        server: String,
        /// The reference.
        reference: String,
        /// One line.
        why: String,
    },
    /// The wrapped answer cannot be opened: it was opened before, or changed.
    #[error(
        "{reference} from {server} was opened on its way here, or did not come from there ({why}); somebody between this node and the vault reads along: nothing is released"
    )]
    Opened {
        /// Its origin.
        server: String,
        /// The reference.
        reference: String,
        /// One line.
        why: String,
    },
    /// The wrapped answer cannot be opened, and its token may have ended by itself.
    #[error(
        "{reference} from {server} came later than it was wrapped for, so it cannot be told whether somebody has opened it on its way; start the unit again"
    )]
    Late {
        /// Its origin.
        server: String,
        /// The reference.
        reference: String,
    },
    /// This node has not what it logs in with. The server was not asked.
    #[error("no login for role {role}: {why}")]
    NoIds {
        /// The role.
        role: String,
        /// One line.
        why: String,
    },
    /// A lease has no more time.
    #[error("a lease of role {0} has ended at the vault; what it was for has to be fetched anew")]
    LeaseEnded(String),
    /// No Attestation Result can be had now.
    #[error("no attestation result for the vault: {0}")]
    NoGrant(String),
}

/// A server's words on one line of at most 300 bytes, without control characters: they end up in the journal.
pub(crate) fn one_line(text: &str) -> String {
    // rustls ends some of its errors with the address of its manual, which is no server of anybody's here.
    let text = text.split(": https://docs.rs/").next().unwrap_or_default();
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut line = clean.split_whitespace().collect::<Vec<_>>().join(" ");
    let end = (0..=line.len().min(300))
        .rev()
        .find(|at| line.is_char_boundary(*at))
        .unwrap_or(0);
    line.truncate(end);
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_words_cannot_forge_a_journal_line() {
        assert_eq!(
            one_line("no\n\n<0>rempartd: unlocked\x1b[0m"),
            "no <0>rempartd: unlocked [0m"
        );
        assert_eq!(one_line(&"é".repeat(400)).len(), 300);
        let rustls = "peer closed connection without sending TLS close_notify: https://docs.rs/rustls/latest/rustls/x";
        assert_eq!(
            one_line(rustls),
            "peer closed connection without sending TLS close_notify"
        );
    }
}
