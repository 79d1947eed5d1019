//! Takes over what an earlier guard has pinned: the programs have gone on denying meanwhile, nothing is
//! loaded twice. PID 1 has started us, so the programs have already given us the guard's label.

use crate::{
    install::{self, InstallError, Installed},
    maps::{Maps, pin_name},
    options::Options,
    programs::{self, PROGRAMS},
    raw, seal,
};
use aya::programs::links::{FdLink, PinnedLink};
use rempart_api::guard::Program;
use std::os::fd::AsFd;

/// Why the pins are of no use to us.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeoverError {
    /// The programs do not know us.
    #[error(
        "pins-denied: the programs of an earlier guard protect their maps from this process; let systemd start the installed rempart-guard, or reboot if its file was replaced"
    )]
    Denied,
    /// An essential program is gone.
    #[error("pins-incomplete: program {0} is no longer pinned; reboot")]
    Incomplete(&'static str),
    /// Anything that an installation can meet too.
    #[error(transparent)]
    Install(#[from] InstallError),
}

/// The pinned programs; `None` when there are none to take over.
pub(crate) fn take_over(options: &Options) -> Result<Option<Installed>, TakeoverError> {
    // The programs' own answer is EPERM: the folder is closed to all but a guard. EACCES is a wrong owner's.
    match options.pins.join(pin_name("config")).try_exists() {
        Ok(true) => {}
        Ok(false) => return Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => return Err(TakeoverError::Denied),
        Err(error) => {
            let path = options.pins.clone();
            return Err(InstallError::Pins { path, error }.into());
        }
    }
    let mut maps = match Maps::open(&options.pins) {
        Ok(maps) => maps,
        Err(error) if error.is_denial() => return Err(TakeoverError::Denied),
        Err(error) => return Err(InstallError::from(error).into()),
    };
    let config = maps.config().map_err(InstallError::from)?;
    if config.object == 0 {
        drop(maps);
        install::remove_pins(&options.pins);
        return Ok(None);
    }
    if config.object != install::object_digest() {
        eprintln!("<4>rempart-guard: programs of another version stay in force until the next boot");
    }
    let (programs, links) = pinned_links(options)?;
    relabel(&mut maps)?;
    // Learnt once: what is on the disk by now may be root's. A token that lifted the seals had them learnt again at its end.
    let held = match config.armed {
        true => seal::hold(&maps),
        false => seal::learn(&mut maps, options).map_err(InstallError::from)?,
    };
    Ok(Some(Installed {
        maps,
        programs,
        links,
        held,
    }))
}

fn pinned_links(options: &Options) -> Result<(Vec<Program>, Vec<FdLink>), TakeoverError> {
    let mut attached = Vec::new();
    let mut links = Vec::new();
    for row in PROGRAMS {
        match PinnedLink::from_pin(options.pins.join(install::link_pin(row.name))) {
            Ok(link) => {
                links.push(link.into());
                attached.push(row.name);
            }
            Err(_) if row.essential => return Err(TakeoverError::Incomplete(row.name)),
            Err(_) => {}
        }
    }
    Ok((programs::listed(|name| attached.contains(&name)), links))
}

/// PID 1's exec has labelled us; without that (no program was told our executable) we do it ourselves.
fn relabel(maps: &mut Maps) -> Result<(), TakeoverError> {
    let own = raw::pidfd_open(std::process::id()).map_err(InstallError::Label)?;
    let label = raw::label(maps.labels_fd(), own.as_fd()).map_err(InstallError::Label)?;
    if !label.is_some_and(|label| label.is_guard()) {
        install::label_self(maps)?;
    }
    install::sync_self().map_err(InstallError::Label)?;
    Ok(())
}
