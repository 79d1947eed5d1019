//! One configuration file as written, and how a later one overrides an earlier one key by key.
//!
//! Must never take an unknown key: a misspelt protection would silently be the default.

use rempart_api::guard::Loader;
use serde::Deserialize;

use super::ConfigError;

/// One file as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fragment {
    #[serde(default)]
    pub(super) node: NodeFragment,
    #[serde(default)]
    pub(super) verifier: VerifierFragment,
    #[serde(default)]
    pub(super) tpm: TpmFragment,
    #[serde(default)]
    pub(super) tee: TeeFragment,
    #[serde(default)]
    pub(super) vault: VaultFragment,
    #[serde(default)]
    pub(super) guard: GuardFragment,
    #[serde(default)]
    pub(super) memory: MemoryFragment,
    #[serde(default)]
    pub(super) run: RunFragment,
    #[serde(default)]
    pub(super) attest: AttestFragment,
}

macro_rules! fragment {
    ($name:ident { $($key:ident: $type:ty),* }) => {
        #[derive(Debug, Clone, Default, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct $name { $(pub(super) $key: Option<$type>),* }
        impl $name {
            fn override_with(&mut self, later: Self) {
                $(if later.$key.is_some() { self.$key = later.$key; })*
            }
        }
    };
}

fragment!(NodeFragment { name: String });
fragment!(VerifierFragment {
    url: String,
    ca: String
});
fragment!(TpmFragment {
    tcti: String,
    ak: String,
    ek: String,
    bank: String,
    exclusive: bool,
    sealed_pcrs: Vec<u8>
});
fragment!(TeeFragment {
    provider: String,
    required: bool,
    vmpl: u8
});
fragment!(VaultFragment {
    kind: String,
    url: String,
    ca: String,
    auth: String,
    auth_mount: String,
    cert_mount: String,
    approle_mount: String,
    approle_folder: String,
    namespace: String,
    wrapping: bool
});
fragment!(GuardFragment {
    degraded: String,
    files: String,
    foreign_bpf: Vec<Loader>
});
fragment!(MemoryFragment { degraded: String });
fragment!(RunFragment { roles: Vec<String> });
fragment!(AttestFragment {
    interval: String,
    systemd_report: String
});

impl Fragment {
    /// Reads one file's text; `file` is for the error only.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| ConfigError::OperatorSyntax {
            file: file.to_owned(),
            what: error.to_string().trim().replace('\n', " "),
        })
    }

    /// `self` with every key that `later` sets.
    #[must_use]
    pub fn overridden_by(mut self, later: Self) -> Self {
        self.node.override_with(later.node);
        self.verifier.override_with(later.verifier);
        self.tpm.override_with(later.tpm);
        self.tee.override_with(later.tee);
        self.vault.override_with(later.vault);
        self.guard.override_with(later.guard);
        self.memory.override_with(later.memory);
        self.run.override_with(later.run);
        self.attest.override_with(later.attest);
        self
    }
}
