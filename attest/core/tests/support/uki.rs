//! Unified kernel images with just enough of a PE file around sections of any content.

/// What `predict` demands.
pub const CMDLINE: &str = "ro systemd.import_credentials=no SYSTEMD_EFI_OPTIONS= systemd.setenv=SYSTEMD_EFI_OPTIONS= \
                           systemd.gpt_auto=no nohibernate";
const MAGIC: &[u8] = b"#### LoaderInfo: systemd-stub 257.1-test ####\0";

/// These sections, and the mark of the stub.
pub fn unified(sections: &[(&str, &[u8])]) -> Vec<u8> {
    let mut all = sections.to_vec();
    all.push((".sdmagic", MAGIC));
    pe(&all)
}

/// A PE32+ file with these sections, each padded to 512 bytes in the file.
pub fn pe(sections: &[(&str, &[u8])]) -> Vec<u8> {
    const ALIGN: usize = 512;
    const OPTIONAL: usize = 240;
    let headers = (0x58 + OPTIONAL + sections.len() * 40).next_multiple_of(ALIGN);
    let mut out = vec![0; headers];
    let put = |out: &mut Vec<u8>, at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(&mut out, 0, b"MZ");
    put(&mut out, 0x3c, &0x40u32.to_le_bytes());
    put(&mut out, 0x40, b"PE\0\0");
    put(
        &mut out,
        0x46,
        &u16::try_from(sections.len()).expect("few").to_le_bytes(),
    );
    put(&mut out, 0x54, &u16::try_from(OPTIONAL).expect("small").to_le_bytes());
    put(&mut out, 0x58, &0x20bu16.to_le_bytes());
    put(
        &mut out,
        0x58 + 60,
        &u32::try_from(headers).expect("small").to_le_bytes(),
    );
    put(&mut out, 0x58 + 108, &16u32.to_le_bytes());
    for (at, (name, content)) in sections.iter().enumerate() {
        let entry = 0x58 + OPTIONAL + at * 40;
        let padded = content.len().next_multiple_of(ALIGN);
        let offset = out.len();
        put(&mut out, entry, name.as_bytes());
        for (field, value) in [(8, content.len()), (16, padded), (20, offset)] {
            put(
                &mut out,
                entry + field,
                &u32::try_from(value).expect("small").to_le_bytes(),
            );
        }
        out.extend_from_slice(content);
        out.resize(offset + padded, 0);
    }
    out
}
