//! What the agent sees at the places it trusts: root can have systemd start it with other files mounted there (`BindPaths=`,
//! `RootDirectory=`), such as another system bus. The kernel's own table of this process's mounts tells.
//!
//! Must never take the table from a file that somebody has mounted over it.

use std::{
    fs::File,
    io::{self, Read},
};

use nix::sys::{
    stat::fstat,
    statfs::{PROC_SUPER_MAGIC, fstatfs},
};
use rustix::fs::{AtFlags, StatxFlags, statx};

/// Whatever is mounted at these, above or below them decides what the agent runs, reads or talks to.
const TRUSTED: &[&str] = &[
    "/bin",
    "/dev/tpmrm0",
    "/etc",
    "/lib",
    "/lib64",
    "/proc",
    "/run/dbus",
    "/run/rempart",
    "/run/rempart-guard",
    "/run/systemd/private",
    "/usr",
    "/var/lib/rempart",
];
/// Mounts below come and go by themselves.
const LIVELY: &[&str] = &["/proc/sys"];
/// Inode of the root of every procfs.
const PROC_ROOT: u64 = 1;
/// Longest table, in bytes.
const MAX_TABLE: u64 = 4 << 20;

/// The table, one line a mount at a trusted place: device, its root in that file system, mount point, kind. Sorted, and the same for
/// every start of a service in one boot.
pub fn trusted() -> io::Result<String> {
    Ok(of_trusted(&table()?))
}

/// The kernel's table. No mount lies between procfs and the file, and the procfs is one.
fn table() -> io::Result<String> {
    let proc = File::open("/proc")?;
    if fstatfs(&proc)?.filesystem_type() != PROC_SUPER_MAGIC || fstat(&proc)?.st_ino != PROC_ROOT {
        return Err(io::Error::other("/proc is no procfs"));
    }
    // Not openat2(2) with RESOLVE_NO_XDEV: RestrictSUIDSGID= takes that call away. The same mount is no other's on the way.
    let file = File::open("/proc/self/mountinfo")?;
    if mount_of(&file)? != mount_of(&proc)? {
        return Err(io::Error::other("something is mounted over /proc/self/mountinfo"));
    }
    let mut text = String::new();
    file.take(MAX_TABLE).read_to_string(&mut text)?;
    Ok(text)
}

/// Id of the mount that a file was opened in (statx(2), STATX_MNT_ID, Linux 5.8).
fn mount_of(file: &File) -> io::Result<u64> {
    let told = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    if told.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
        return Err(io::Error::other("the kernel tells no mount ids"));
    }
    Ok(told.stx_mnt_id)
}

fn of_trusted(table: &str) -> String {
    let own = own_procfs(table);
    let mut lines: Vec<String> = table.lines().filter_map(|text| line(text, own)).collect();
    lines.sort();
    lines.concat()
}

/// Device of the procfs that is /proc. systemd gives each start one of its own (`ProtectProc=`), whose number depends on what else runs.
/// It is the kernel's all the same, and of this PID namespace or one above: another has no /proc/self for this process to read.
fn own_procfs(table: &str) -> Option<&str> {
    let mounts = table.lines().filter_map(Mount::parse);
    let mut over_all = mounts.filter(|mount| mount.point == "/proc" && mount.root == "/" && mount.kind == "proc");
    over_all.next_back().map(|mount| mount.device)
}

fn line(text: &str, own: Option<&str>) -> Option<String> {
    let Mount {
        device,
        root,
        point,
        kind,
    } = Mount::parse(text)?;
    let matters = TRUSTED.iter().any(|place| is_in(place, point) || is_in(point, place));
    let lively = LIVELY.iter().any(|place| point != *place && is_in(point, place));
    let device = if Some(device) == own { "own" } else { device };
    (matters && !lively).then(|| format!("{device} {root} {point} {kind}\n"))
}

/// A line of proc_pid_mountinfo(5).
struct Mount<'a> {
    device: &'a str,
    root: &'a str,
    point: &'a str,
    kind: &'a str,
}

impl<'a> Mount<'a> {
    /// Field 2 is the device, 3 the root, 4 the mount point; after the dash comes the kind.
    fn parse(text: &'a str) -> Option<Self> {
        let mut fields = text.split(' ').skip(2);
        Some(Self {
            device: fields.next()?,
            root: fields.next()?,
            point: fields.next()?,
            kind: text.split_once(" - ")?.1.split(' ').next()?,
        })
    }
}

/// `path` is `folder` or lies in it.
fn is_in(path: &str, folder: &str) -> bool {
    let folder = folder.trim_end_matches('/');
    path.strip_prefix(folder)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
21 1 254:1 / / rw,relatime - ext4 /dev/vda1 rw
22 21 0:20 / /proc rw - proc proc rw
23 22 0:31 / /proc/sys/fs/binfmt_misc rw - autofs systemd-1 rw
24 21 0:22 / /run rw - tmpfs tmpfs rw
25 24 0:40 / /run/user/1000 rw - tmpfs tmpfs rw
26 21 254:2 / /srv/data rw - ext4 /dev/vdb rw
";

    #[test]
    fn only_what_bears_on_trusted_places_counts() {
        assert_eq!(
            of_trusted(TABLE),
            "0:22 / /run tmpfs\n254:1 / / ext4\nown / /proc proc\n"
        );
    }

    #[test]
    fn a_mount_over_a_bus_a_library_or_the_root_shows() {
        let plain = of_trusted(TABLE);
        for over in [
            "30 24 0:33 /fake /run/dbus/system_bus_socket rw - tmpfs tmpfs rw",
            "30 24 0:33 /evil.so /usr/lib/x86_64-linux-gnu/libtss2-esys.so.0 rw - tmpfs tmpfs rw",
            "30 22 0:20 /99 /proc/1 rw - proc proc rw",
            "30 1 0:33 /root / rw - tmpfs tmpfs rw",
        ] {
            assert_ne!(of_trusted(&format!("{TABLE}{over}\n")), plain, "{over}");
        }
    }

    #[test]
    fn the_order_of_the_table_does_not_count_but_a_second_mount_does() {
        let mut lines: Vec<&str> = TABLE.lines().collect();
        lines.reverse();
        assert_eq!(of_trusted(&lines.join("\n")), of_trusted(TABLE));
        let twice = format!("{TABLE}22 21 0:20 / /proc rw - proc proc rw\n");
        assert_ne!(of_trusted(&twice), of_trusted(TABLE));
    }

    #[test]
    fn the_procfs_of_another_start_is_the_same_but_a_part_of_it_or_another_is_not() {
        let bus = "27 22 0:20 /bus /proc/bus ro - proc proc rw\n";
        let table = format!("{TABLE}{bus}");
        let plain = of_trusted(&table);
        assert_eq!(of_trusted(&table.replace(" 0:20 ", " 0:63 ")), plain);
        for other in [
            TABLE.replace("0:20 / /proc", "0:20 /99 /proc") + bus,
            TABLE.to_owned() + &bus.replace("0:20", "0:63"),
            TABLE.to_owned() + &bus.replace("/bus ", "/99 "),
            table.replace("- proc proc", "- tmpfs tmpfs"),
        ] {
            assert_ne!(of_trusted(&other), plain, "{other}");
        }
    }

    #[test]
    fn our_own_table_has_a_root_and_a_procfs() {
        let table = trusted().expect("the kernel's table");
        assert!(table.contains(" / ") && table.contains(" /proc proc\n"), "{table}");
    }
}
