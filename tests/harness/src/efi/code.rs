//! The smallest firmware code that leaves a trace: an EFI driver whose entry point sets one variable, also as a PCI option ROM.
//! PE/COFF as in Microsoft's specification, option ROM as in PCI Firmware Specification 3.3, 5.1, and UEFI 2.10, 14.4.

use super::nvram::{Guid, utf16};

/// The driver's load address space: headers in the first page, one section in the second.
const PAGE: u32 = 0x1000;
const FILE_ALIGNMENT: usize = 0x200;
/// IMAGE_SUBSYSTEM_EFI_BOOT_SERVICE_DRIVER.
const DRIVER: u16 = 11;
/// Size of an option ROM, bytes.
const ROM: usize = 0x10000;
/// Code, executable, readable, writable.
const SECTION_FLAGS: u32 = 0xE000_0020;

/// An EFI driver that sets the variable `name` of [`Guid::HOST`] to 1 and ends.
#[must_use]
pub fn driver(name: &str) -> Vec<u8> {
    let mut text = machine_code(name);
    text.resize(text.len().next_multiple_of(FILE_ALIGNMENT), 0);
    let size = u32::try_from(text.len()).expect("a page at most");
    let mut image = b"MZ".to_vec();
    image.resize(60, 0);
    image.extend(64_u32.to_le_bytes());
    image.extend(b"PE\0\0");
    // COFF header: x86-64, one section, optional header of 240 bytes, executable and relocatable.
    words(&mut image, &[0x8664, 1]);
    longs(&mut image, &[0, 0, 0]);
    words(&mut image, &[240, 0x2022]);
    // Optional header, PE32+: entry point and base of code at the second page.
    words(&mut image, &[0x20b, 0]);
    longs(&mut image, &[size, 0, 0, PAGE, PAGE]);
    image.extend(0_u64.to_le_bytes());
    longs(&mut image, &[PAGE, 0x200]);
    words(&mut image, &[0; 6]);
    longs(&mut image, &[0, 2 * PAGE, 0x200, 0]);
    words(&mut image, &[DRIVER, 0]);
    image.extend([0; 32]);
    // Sixteen directories, all empty.
    longs(&mut image, &[0, 16]);
    image.extend([0; 128]);
    image.extend(b".text\0\0\0");
    longs(&mut image, &[size, PAGE, size, 0x200, 0, 0, 0, SECTION_FLAGS]);
    image.resize(FILE_ALIGNMENT, 0);
    image.extend(text);
    image
}

/// `RuntimeServices->SetVariable(name, HOST, 7, 1, data); return EFI_SUCCESS`, position independent, its data behind it.
fn machine_code(name: &str) -> Vec<u8> {
    let code: [&[u8]; 11] = [
        &[0x48, 0x83, 0xec, 0x38],       // sub rsp, 0x38
        &[0x48, 0x8b, 0x42, 0x58],       // mov rax, [rdx+0x58]     EFI_SYSTEM_TABLE.RuntimeServices
        &[0x48, 0x8d, 0x0d],             // lea rcx, [rip+name]
        &[0x48, 0x8d, 0x15],             // lea rdx, [rip+guid]
        &[0x41, 0xb8, 7, 0, 0, 0],       // mov r8d, attributes
        &[0x41, 0xb9, 1, 0, 0, 0],       // mov r9d, size
        &[0x4c, 0x8d, 0x15],             // lea r10, [rip+data]
        &[0x4c, 0x89, 0x54, 0x24, 0x20], // mov [rsp+0x20], r10
        &[0xff, 0x50, 0x58],             // call [rax+0x58]         SetVariable
        &[0x31, 0xc0],                   // xor eax, eax
        &[0x48, 0x83, 0xc4, 0x38, 0xc3], // add rsp, 0x38; ret
    ];
    let relative = |place: usize| matches!(place, 2 | 3 | 6);
    let length: usize = code
        .iter()
        .enumerate()
        .map(|(place, bytes)| bytes.len() + if relative(place) { 4 } else { 0 })
        .sum();
    let guid = length.next_multiple_of(16);
    let (data, text) = (guid + 16, guid + 18);
    let mut out = Vec::new();
    for (place, bytes) in code.into_iter().enumerate() {
        out.extend_from_slice(bytes);
        if relative(place) {
            let target = [text, guid, data][[2, 3, 6].iter().position(|at| *at == place).unwrap_or(0)];
            let distance = u32::try_from(target - out.len() - 4).expect("forward, within the section");
            out.extend(distance.to_le_bytes());
        }
    }
    out.resize(guid, 0xcc);
    out.extend(Guid::HOST.0);
    out.extend([1, 0]);
    out.extend(utf16(name));
    out
}

/// A PCI option ROM for a virtio network card that carries `image`.
#[must_use]
pub fn option_rom(image: &[u8]) -> Vec<u8> {
    const HEADER: usize = 0x40;
    const DATA_STRUCTURE: u16 = 0x1c;
    let blocks = u16::try_from((HEADER + image.len()).div_ceil(512)).expect("a small image");
    let mut rom = vec![0x55, 0xaa];
    words(&mut rom, &[blocks]);
    longs(&mut rom, &[0x0ef1]);
    words(&mut rom, &[DRIVER, 0x8664, 0]);
    rom.resize(0x16, 0);
    words(&mut rom, &[0x40, DATA_STRUCTURE, 0]);
    rom.resize(usize::from(DATA_STRUCTURE), 0);
    rom.extend(b"PCIR");
    // Vendor, device, list, length, revision and class.
    words(&mut rom, &[0x1af4, 0x1000, 0, 0x18, 0x0003, 0x0200]);
    words(&mut rom, &[blocks, 0]);
    // Code type 3 is EFI; this is the last image.
    rom.extend([3, 0x80, 0, 0]);
    rom.resize(HEADER, 0);
    rom.extend_from_slice(image);
    // OVMF was seen to pass over a ROM of 2 KiB.
    rom.resize(ROM, 0);
    rom
}

fn words(out: &mut Vec<u8>, values: &[u16]) {
    out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

fn longs(out: &mut Vec<u8>, values: &[u32]) {
    out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_is_one_section_behind_its_headers_and_ends_with_its_variable_name() {
        let image = driver("HostWasHere");
        assert_eq!(&image[64..68], b"PE\0\0");
        assert_eq!(image.len() % FILE_ALIGNMENT, 0);
        assert_eq!(&image[64 + 24 + 240..][..5], b".text");
        let name = utf16("HostWasHere");
        assert!(image.windows(name.len()).any(|part| part == name));
    }

    #[test]
    fn the_option_rom_says_where_its_image_is() {
        let rom = option_rom(&driver("X"));
        assert_eq!(&rom[0x1c..0x20], b"PCIR");
        let at = usize::from(u16::from_le_bytes([rom[0x16], rom[0x17]]));
        assert_eq!(&rom[at..at + 2], b"MZ");
        assert_eq!(rom.len() % 512, 0);
    }
}
