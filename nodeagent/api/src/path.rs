//! Where things lie in an installed system. The packages and these constants must agree.

/// rempartd listens here; anyone may connect, the kernel says who it is.
pub const AGENT_SOCKET: &str = "/run/rempart/agent.sock";
/// rempartd listens here for systemd's `LoadCredential=`.
pub const CREDENTIALS_SOCKET: &str = "/run/rempart/credentials.sock";
/// rempart-guard listens here, for rempartd.
pub const GUARD_SOCKET: &str = "/run/rempart-guard/guard.sock";
/// The privileged log reader listens here, for rempartd.
pub const EVIDENCE_SOCKET: &str = "/run/rempart/evidence.sock";
/// Links of `file` deliveries: `UNITS/UNIT/NAME`.
pub const UNITS: &str = "/run/rempart/units";
/// Requests for jobs of units, for rempart-jobs: a file of a unit's name each, with the word of a job.
pub const JOBS: &str = "/run/rempart-jobs";
/// Standard input, output and error of units that `rempart run` starts: `STDIO/UNIT/0` to `2`.
pub const STDIO: &str = "/run/rempart-run";
/// State of the agent.
pub const STATE: &str = "/var/lib/rempart";
/// Configuration of the agent, with `conf.d/*.toml` beside it.
pub const CONFIG: &str = "/etc/rempart/rempart.toml";
/// Pins of the guard's programs, links and maps.
pub const PINS: &str = "/sys/fs/bpf/rempart";
/// The wrapper that every opted-in unit is started through.
pub const WRAP: &str = "/usr/lib/rempart/rempart-wrap";
/// The getenv interposer.
pub const PRELOAD: &str = "/usr/lib/rempart/librempart_preload.so";
/// The allocator of units with `Memory=secret`.
pub const HEAP: &str = "/usr/lib/rempart/librempart_heap.so";
