//! The initrd that systemd-stub 257 hands to the kernel, byte for byte, because the kernel measures it as one blob into PCR 9:
//! .ucode, .initrd, then one small archive (newc cpio, Documentation/driver-api/early-userspace/buffer-format) for each embedded
//! section that user space may read under /.extra. Credentials and extensions beside the image are not part of it: they are
//! configuration from outside and show in PCR 12.

use super::uki::Uki;

/// Section, file name under /.extra; in the order in which the stub joins them.
const EMBEDDED: [(&str, &str); 4] = [
    (".pcrsig", "tpm2-pcr-signature.json"),
    (".pcrpkey", "tpm2-pcr-public-key.pem"),
    (".osrel", "os-release"),
    (".profile", "profile"),
];
const DIRECTORY: &str = ".extra";
const DIRECTORY_MODE: u32 = 0o040_555;
const FILE_MODE: u32 = 0o100_444;

/// The whole initrd; `None` when the image has nothing to hand over.
pub(super) fn assemble(uki: &Uki<'_>) -> Option<Vec<u8>> {
    let mut parts: Vec<Vec<u8>> = [".ucode", ".initrd"]
        .into_iter()
        .filter_map(|name| uki.content(name))
        .collect();
    parts.extend(
        EMBEDDED
            .into_iter()
            .filter_map(|(section, file)| Some(archive(file, &uki.content(section)?))),
    );
    // A single part goes to the kernel as it is; several are each padded to four bytes.
    if parts.len() < 2 {
        return parts.pop();
    }
    let mut joined = Vec::with_capacity(parts.iter().map(|p| p.len() + 3).sum());
    for part in parts {
        joined.extend_from_slice(&part);
        pad(&mut joined);
    }
    Some(joined)
}

/// An archive with /.extra and one file in it.
fn archive(file: &str, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + 512);
    entry(&mut out, 1, DIRECTORY_MODE, 1, DIRECTORY, &[]);
    entry(&mut out, 2, FILE_MODE, 1, &format!("{DIRECTORY}/{file}"), content);
    // The stub writes the trailer's name length with a capital B where other fields have lower case; its digest depends on it.
    let trailer = out.len();
    entry(&mut out, 0, 0, 1, "TRAILER!!!", &[]);
    out[trailer + 94..trailer + 102].make_ascii_uppercase();
    out
}

fn entry(out: &mut Vec<u8>, inode: u32, mode: u32, links: u32, name: &str, content: &[u8]) {
    let size = u32::try_from(content.len()).expect("sections are smaller than 4 GiB");
    let name_size = u32::try_from(name.len() + 1).expect("names are literals of this file");
    out.extend_from_slice(b"070701");
    // inode, mode, uid, gid, nlink, mtime, size, major, minor, rmajor, rminor, namesize, check
    for field in [inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0] {
        out.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    out.extend_from_slice(name.as_bytes());
    out.push(0);
    pad(out);
    out.extend_from_slice(content);
    pad(out);
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}
