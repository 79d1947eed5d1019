//! Links for file deliveries: `/run/rempart/units/UNIT/NAME` → `/proc/self/fd/N`, which opens to the reader's own
//! descriptor. The link is the same for everybody and holds nothing.

use std::{
    fs::{self, Permissions},
    io::{self, ErrorKind},
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use rempart_api::agent::{Deliver, FILE_FD_BASE, Item};

use super::Refusal;

/// Makes the link of each item that is delivered as a file, and writes its path into the item.
pub fn make(folder: &Path, unit: &str, items: &mut [Item]) -> Result<(), Refusal> {
    let (all, folder) = (folder, folder.join(unit));
    for (index, item) in items
        .iter_mut()
        .enumerate()
        .filter(|(_, item)| item.deliver == Deliver::File)
    {
        let link = folder.join(&item.name);
        let target = format!("/proc/self/fd/{}", FILE_FD_BASE as usize + index);
        let made = open_folder(all)
            .and_then(|()| open_folder(&folder))
            .and_then(|()| match fs::read_link(&link) {
                Ok(old) if old == Path::new(&target) => Ok(()),
                Ok(_) => fs::remove_file(&link).and_then(|()| symlink(&target, &link)),
                Err(error) if error.kind() == ErrorKind::NotFound => symlink(&target, &link),
                Err(error) => Err(error),
            });
        made.map_err(|error| Refusal::Link {
            path: link.display().to_string(),
            why: error.to_string(),
        })?;
        item.path = Some(link.display().to_string());
    }
    Ok(())
}

/// Services of any user go through it, whatever the agent's umask says.
fn open_folder(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o755))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_made_once_and_corrected_when_the_order_changed() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let item = |name: &str, deliver| Item {
            name: name.into(),
            deliver,
            offset: 0,
            len: 0,
            path: None,
            access: Default::default(),
        };
        let mut items = vec![item("a", Deliver::Env), item("tls.key", Deliver::File)];
        fs::create_dir(folder.path().join("web.service")).expect("made before");
        let closed = fs::Permissions::from_mode(0o700);
        fs::set_permissions(folder.path().join("web.service"), closed).expect("as by a umask");
        make(folder.path(), "web.service", &mut items).expect("made");
        make(folder.path(), "web.service", &mut items).expect("made again");
        for path in [folder.path(), &folder.path().join("web.service")] {
            let mode = fs::metadata(path).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o755, "a service's user reaches its links");
        }
        let link = folder.path().join("web.service/tls.key");
        assert_eq!(items[1].path.as_deref(), link.to_str());
        assert_eq!(items[0].path, None);
        assert_eq!(fs::read_link(&link).expect("link"), Path::new("/proc/self/fd/201"));
        let mode = fs::metadata(folder.path().join("web.service"))
            .expect("made")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o755, "every user finds its way through");
        let mut first = vec![item("tls.key", Deliver::File)];
        make(folder.path(), "web.service", &mut first).expect("corrected");
        assert_eq!(fs::read_link(&link).expect("link"), Path::new("/proc/self/fd/200"));
    }
}
