//! The programs in force, or the named degraded mode. Decided once at start: a kernel that could not
//! enforce then is not trusted to have changed its mind.

use crate::{
    install::{self, Installed},
    observer::Observer,
    options::Options,
    programs, takeover,
    warden::Refusal,
};
use std::path::PathBuf;

/// What the kernel does for us.
pub(crate) enum Enforcement {
    /// Attempts are refused.
    Active {
        /// Maps and links.
        installed: Box<Installed>,
        /// Where the rings are pinned.
        pins: PathBuf,
    },
    /// Nothing is refused.
    Degraded {
        /// `mode-name: cause; what to do`.
        why: String,
        /// Records attempts all the same, where the kernel loads programs for that.
        observer: Option<Box<Observer>>,
    },
}

impl Enforcement {
    /// What is in force; the degraded mode where nothing is.
    pub(crate) fn installed(&mut self) -> Result<&mut Installed, Refusal> {
        match self {
            Enforcement::Active { installed, .. } => Ok(installed),
            Enforcement::Degraded { why, .. } => Err(Refusal::Degraded(why.clone())),
        }
    }

    /// Takes over or installs; never fails, but says what is missing.
    pub(crate) fn establish(options: &Options) -> Self {
        let outcome = match takeover::take_over(options) {
            Ok(Some(installed)) => {
                eprintln!("<6>rempart-guard: took over the pinned programs");
                Ok(installed)
            }
            Ok(None) => install::install(options).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match outcome {
            Ok(installed) => {
                if let Some(why) = programs::hooks_missing(&installed.programs) {
                    eprintln!("<4>rempart-guard: DEGRADED, not everything is enforced: {why}");
                }
                Enforcement::Active {
                    installed: Box::new(installed),
                    pins: options.pins.clone(),
                }
            }
            Err(why) => {
                eprintln!("<3>rempart-guard: DEGRADED, nothing is enforced: {why}");
                let observer = Observer::start();
                match &observer {
                    Ok(_) => eprintln!("<4>rempart-guard: some attempts are observed, none is refused"),
                    Err(error) => eprintln!("<4>rempart-guard: attempts are not observed either: {error}"),
                }
                Enforcement::Degraded {
                    why,
                    observer: observer.ok().map(Box::new),
                }
            }
        }
    }
}
