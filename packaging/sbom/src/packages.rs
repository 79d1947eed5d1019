//! Which programs are in which package. packaging/stage puts them there, and tests/packages/run compares.

/// A package, whatever its format.
pub struct Package {
    /// Its name.
    pub name: &'static str,
    /// The workspace's members whose programs and libraries it has.
    pub programs: &'static [&'static str],
}

/// All of them.
pub const ALL: [Package; 2] = [
    Package {
        name: "rempart",
        programs: &[
            "rempart",
            "rempartd",
            "rempart-guard",
            "rempart-device",
            "rempart-jobs",
            "rempart-wrap",
            "rempart-generator",
            "rempart-preload",
            "rempart-heap",
        ],
    },
    Package {
        name: "rempart-verifier",
        programs: &["rempart-verifier"],
    },
];
