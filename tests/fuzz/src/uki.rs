//! Small unified kernel images for the corpora: every header field that a predictor reads, contents of a few bytes.

/// Of a PE32+ file as we lay it out: DOS header, signature at 0x40, COFF header, optional header of 240 bytes, section table.
const PE: usize = 0x40;
const OPTIONAL: usize = PE + 24;
const TABLE: usize = OPTIONAL + 240;

/// With everything that a prediction demands.
const CMDLINE: &[u8] = b"ro systemd.import_credentials=no SYSTEMD_EFI_OPTIONS= systemd.setenv=SYSTEMD_EFI_OPTIONS= systemd.gpt_auto=no nohibernate";

/// With every section that is measured or handed over.
pub fn whole() -> Vec<u8> {
    let kernel = image(&[(".text", b"kernel")]);
    image(&[
        (".sdmagic", b"#### LoaderInfo: systemd-stub 257.9-1 ####\0"),
        (".osrel", b"ID=debian\n"),
        (".cmdline", CMDLINE),
        (".uname", b"6.12"),
        (".sbat", b"sbat,1\n"),
        (".pcrpkey", b"-----BEGIN PUBLIC KEY-----\n"),
        (".pcrsig", b"{\"sha256\":[]}"),
        (".profile", b"ID=main\n"),
        (".ucode", b"microcode"),
        (".splash", b"BM"),
        (".dtb", b"tree"),
        (".initrd", b"070701"),
        (".linux", &kernel),
    ])
}

/// With those without which nothing is predicted.
pub fn smallest() -> Vec<u8> {
    let kernel = image(&[]);
    image(&[
        (".sdmagic", b"#### LoaderInfo: systemd-stub 257\0"),
        (".cmdline", CMDLINE),
        (".linux", &kernel),
    ])
}

fn image(sections: &[(&str, &[u8])]) -> Vec<u8> {
    let headers = TABLE + 40 * sections.len();
    let mut out = vec![0; headers];
    out[..2].copy_from_slice(b"MZ");
    put(&mut out, 0x3c, PE);
    out[PE..PE + 4].copy_from_slice(b"PE\0\0");
    out[PE + 6] = u8::try_from(sections.len()).expect("a dozen");
    out[PE + 20] = 240;
    out[OPTIONAL..OPTIONAL + 2].copy_from_slice(&0x20b_u16.to_le_bytes());
    put(&mut out, OPTIONAL + 60, headers);
    put(&mut out, OPTIONAL + 108, 16);
    for (at, (name, content)) in sections.iter().enumerate() {
        let entry = TABLE + 40 * at;
        out[entry..entry + name.len()].copy_from_slice(name.as_bytes());
        let offset = out.len();
        put(&mut out, entry + 8, content.len());
        put(&mut out, entry + 16, content.len());
        put(&mut out, entry + 20, offset);
        out.extend_from_slice(content);
    }
    out
}

fn put(out: &mut [u8], at: usize, value: usize) {
    let value = u32::try_from(value).expect("small images");
    out[at..at + 4].copy_from_slice(&value.to_le_bytes());
}
