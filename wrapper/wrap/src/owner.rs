//! `FileOwner=`: to whom a delivered file belongs. Names are those of /etc/passwd and /etc/group (passwd(5), group(5)); other sources of names
//! would bring libraries of theirs into a process with secrets.
//!
//! Must never leave a file with another owner than the unit said.

use std::fs;
use std::os::fd::AsFd;

use nix::unistd::{Gid, Uid, fchown};
use rempart_api::agent::Item;

use crate::error::Error;

/// Gives `file` to the owner that the unit says for `item`, if it says one.
///
/// # Errors
/// There is no such user or group, or the kernel does not let this process give it away (chown(2)).
pub fn give(file: impl AsFd, item: &Item) -> Result<(), Error> {
    let (user, group) = (item.access.user.as_deref(), item.access.group.as_deref());
    if user.is_none() && group.is_none() {
        return Ok(());
    }
    let owner = format!(
        "{}{}",
        user.unwrap_or_default(),
        group.map(|group| format!(":{group}")).unwrap_or_default()
    );
    let refused = |why: String| Error::FileOwner {
        name: item.name.clone(),
        owner: owner.clone(),
        why,
    };
    let known = |name: Option<&str>, table: &str| match name {
        None => Ok(None),
        Some(name) => number(name, &fs::read_to_string(table).unwrap_or_default())
            .map(Some)
            .ok_or_else(|| refused(format!("{table} does not name {name}"))),
    };
    let uid = known(user, "/etc/passwd")?.map(Uid::from_raw);
    let gid = known(group, "/etc/group")?.map(Gid::from_raw);
    fchown(file, uid, gid).map_err(|why| refused(why.desc().to_owned()))
}

/// The number of `name`: it is one, or stands in the third field of its line.
fn number(name: &str, table: &str) -> Option<u32> {
    if name.bytes().all(|byte| byte.is_ascii_digit()) {
        return name.parse().ok();
    }
    let line = table
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields[0] == name)?;
    line.get(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use rempart_api::agent::{Access, Deliver};

    use super::*;

    const TABLE: &str = "root:x:0:\nbroken\nssl-cert:x:105:postgres,www\nodd:x:many:\n";

    fn item(user: Option<&str>, group: Option<&str>) -> Item {
        Item {
            name: "key".into(),
            deliver: Deliver::File,
            offset: 0,
            len: 0,
            path: None,
            access: Access {
                mode: None,
                user: user.map(str::to_owned),
                group: group.map(str::to_owned),
            },
        }
    }

    #[test]
    fn names_and_numbers_are_found_and_nothing_else() {
        assert_eq!(number("ssl-cert", TABLE), Some(105));
        assert_eq!(number("106", TABLE), Some(106));
        for name in ["ssl", "broken", "odd", "postgres", "99999999999", ""] {
            assert_eq!(number(name, TABLE), None, "{name}");
        }
    }

    #[test]
    fn an_owner_that_does_not_exist_is_one_clear_line() {
        let file = tempfile::tempfile().expect("a file");
        give(&file, &item(None, None)).expect("nothing is said");
        let error = give(&file, &item(Some("nobody-of-this-name"), Some("root"))).expect_err("no such user");
        let line = error.line();
        assert!(
            line.contains("the file of key cannot belong to nobody-of-this-name:root: /etc/passwd does not name"),
            "{line}"
        );
        assert_eq!(error.exit_code(), rempart_api::exit::CONFIG);
    }
}
