//! `[limits]`: what one source, one node and all together may ask for. The defaults suit some hundred thousand nodes; those behind one
//! address translation share a source's part.

use serde::Deserialize;

/// The table, all of it optional.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections at once. At up to 150 KiB each, the default stays below 640 MiB; an ordinary one takes 50 KiB.
    pub connections: u32,
    /// Connections at once from one source (an IPv4 address, an IPv6 /64).
    pub connections_per_source: u32,
    /// New connections and requests a second from one source, in the long run.
    pub source_per_second: u32,
    /// The same, at once after a pause: a rack that boots together.
    pub source_burst: u32,
    /// Attestations and enrolments a minute of one node.
    pub node_per_minute: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            connections_per_source: 512,
            source_per_second: 100,
            source_burst: 2000,
            node_per_minute: 30,
        }
    }
}

impl Limits {
    /// Zero would mean that nobody is ever answered.
    pub fn judge(&self) -> Result<(), &'static str> {
        let all = [
            self.connections,
            self.connections_per_source,
            self.source_per_second,
            self.source_burst,
            self.node_per_minute,
        ];
        if all.contains(&0) {
            return Err("a limit of 0 would refuse everybody");
        }
        if self.connections > 100_000 {
            return Err("limits.connections is more than 100000");
        }
        Ok(())
    }
}
