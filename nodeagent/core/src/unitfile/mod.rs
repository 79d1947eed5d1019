//! systemd unit files as far as Rempart reads them: the syntax, and the section `[X-Rempart]` that opts a unit in.
//!
//! Pure: text goes in, values come out. The generator (what is started) and the agent (what is released) both read
//! through this module, so that they can never understand the same file differently. Must never guess: what is not
//! understood is an error with its file and line. Follows systemd.syntax(7) and systemd.unit(5).

/// The section `[X-Rempart]` and its keys.
mod optin;
/// Lines, sections, continuations and comments.
mod syntax;

pub use optin::{
    Error, Fault, Ingredient, MAX_SECRETS, Offline, OnLock, OnRotate, OptIn, SECTION, SecretSpec, Source, TemplateSpec,
    is_role, read_opt_in,
};
pub use syntax::{Assignment, Entry, SyntaxError, entries};
