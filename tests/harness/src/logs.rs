//! The measurement logs of a machine whose firmware measured nothing, for containers, which have none.

/// What rempart-evidence sends to an agent that asks for no TEE report (a CBOR map, RFC 8949) on a machine whose firmware measured nothing but its log's header:
/// TCG_EfiSpecIDEvent in an EV_NO_ACTION event, SHA-256 only (PC Client Platform Firmware Profile, 10.4.5.1).
#[must_use]
pub fn empty_logs() -> Vec<u8> {
    let (sha256, sha256_size) = (0x000b_u16, 32_u16);
    let mut spec = b"Spec ID Event03\0".to_vec();
    spec.extend([0, 0, 0, 0, 0, 2, 0, 2]);
    spec.extend(1_u32.to_le_bytes());
    spec.extend(sha256.to_le_bytes());
    spec.extend(sha256_size.to_le_bytes());
    spec.push(0);
    let mut event = [0_u32.to_le_bytes(), 3_u32.to_le_bytes()].concat();
    event.extend([0; 20]);
    let length = u8::try_from(spec.len()).unwrap_or(u8::MAX);
    event.extend(u32::from(length).to_le_bytes());
    event.extend(spec);
    let mut message = vec![0xa2, 0x68];
    message.extend(b"uefi_log");
    message.extend([0x58, u8::try_from(event.len()).unwrap_or(u8::MAX)]);
    message.extend(event);
    message.push(0x6d);
    message.extend(b"userspace_log");
    message.push(0x40);
    message
}
