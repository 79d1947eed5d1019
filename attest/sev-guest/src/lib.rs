//! SNP_GET_EXT_REPORT on /dev/sev-guest (Linux Documentation/virt/coco/sev-guest.rst, include/uapi/linux/sev-guest.h; GHCB
//! specification, MSG_REPORT_REQ and MSG_REPORT_RSP of the SEV-SNP firmware ABI, tables 23 and 26): a SEV-SNP attestation report
//! with the certificate table that the host supplies. For kernels before 6.7, which have no configfs-tsm.
//!
//! The only crate of attestation with unsafe code, and nothing else is in it. Must never follow an offset or a length of the
//! host's table: the host is not trusted, so the table is handed on as bytes of a fixed maximum. (That is why no library does
//! this: the ones there are walk the table by its own offsets.)

#![deny(unsafe_op_in_unsafe_fn)]

use std::{fs::File, io, mem::size_of, os::fd::AsRawFd, path::Path};

/// ATTESTATION_REPORT, bytes (SEV-SNP firmware ABI, table 23).
pub const REPORT: usize = 1184;
/// Most that the kernel takes for certificates, bytes: SEV_FW_BLOB_MAX_SIZE. Asking with all of it needs no second try.
pub const CERTIFICATES: usize = 0x4000;

/// What the firmware signed, and what the host says are its certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtendedReport {
    /// ATTESTATION_REPORT.
    pub report: Vec<u8>,
    /// The host's certificate table, unjudged; empty when it supplies none.
    pub certificates: Vec<u8>,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// The kernel said no before anybody else was asked.
    #[error("kernel refused the report: {0}")]
    Kernel(io::Error),
    /// The host did not pass the request on.
    #[error("host refused the report: error {error} (1: certificates too long, 2: busy)")]
    Host {
        /// SNP_GUEST_VMM_ERR_*.
        error: u32,
    },
    /// The secure processor refused.
    #[error("secure processor refused the report: status {status:#x} (0x16: a VMPL that this guest may not ask for)")]
    Firmware {
        /// SEV firmware status.
        status: u32,
    },
}

/// struct snp_report_req.
#[repr(C)]
struct ReportRequest {
    user_data: [u8; 64],
    vmpl: u32,
    reserved: [u8; 28],
}

/// struct snp_ext_report_req.
#[repr(C)]
struct ExtendedRequest {
    data: ReportRequest,
    certs_address: u64,
    certs_len: u32,
}

/// struct snp_report_resp: MSG_REPORT_RSP.
#[repr(C)]
struct Response {
    status: u32,
    report_size: u32,
    reserved: [u8; 24],
    report: [u8; REPORT],
    rest: [u8; 4000 - 32 - REPORT],
}

/// struct snp_guest_request_ioctl.
#[repr(C)]
pub struct GuestRequest {
    msg_version: u8,
    req_data: u64,
    resp_data: u64,
    /// exitinfo2: error of the host above, of the firmware below.
    error: u64,
}

// The kernel copies by these sizes.
const _: () = assert!(size_of::<ReportRequest>() == 96);
const _: () = assert!(size_of::<ExtendedRequest>() == 112);
const _: () = assert!(size_of::<Response>() == 4000);
const _: () = assert!(size_of::<GuestRequest>() == 32);

/// What the macro makes is `pub`; it must not be outside of this crate.
mod ioctl {
    nix::ioctl_readwrite! {
        /// SNP_GET_EXT_REPORT.
        snp_get_ext_report, b'S', 0x2, super::GuestRequest
    }
}

/// Page-aligned, as the kernel demands of the length and the host's firmware of the memory behind it.
#[repr(C, align(4096))]
struct Table([u8; CERTIFICATES]);

/// Asks the device at `path` for a report over `report_data`, made for `vmpl`.
pub fn extended_report(path: &Path, report_data: &[u8; 64], vmpl: u8) -> Result<ExtendedReport, GuestError> {
    let device = File::open(path).map_err(GuestError::Kernel)?;
    let mut table = Box::new(Table([0; CERTIFICATES]));
    let mut response = Box::new(Response {
        status: 0,
        report_size: 0,
        reserved: [0; 24],
        report: [0; REPORT],
        rest: [0; 4000 - 32 - REPORT],
    });
    let mut request = ExtendedRequest {
        data: ReportRequest {
            user_data: *report_data,
            vmpl: u32::from(vmpl),
            reserved: [0; 28],
        },
        certs_address: table.0.as_mut_ptr() as u64,
        certs_len: CERTIFICATES as u32,
    };
    let mut call = GuestRequest {
        msg_version: 1,
        req_data: &raw mut request as u64,
        resp_data: &raw mut *response as u64,
        error: 0,
    };
    // SAFETY: sev-guest.rst: the driver reads a snp_ext_report_req at req_data, writes certs_len back into it, writes at most
    // certs_len bytes at certs_address and a snp_report_resp at resp_data, all before the call returns. The three live on past the
    // call, are not borrowed meanwhile, and have the sizes asserted above; certs_len is the table's own. Another device behind
    // `path` that knows no ioctl 'S' 2 answers ENOTTY; the path is the caller's constant, never a peer's word.
    // Safe code does not do: a ioctl with addresses inside of its argument has no safe wrapper.
    let answered = unsafe { ioctl::snp_get_ext_report(device.as_raw_fd(), &raw mut call) };
    judge(answered, call.error)?;
    if response.status != 0 {
        return Err(GuestError::Firmware {
            status: response.status,
        });
    }
    let length = (request.certs_len as usize).min(CERTIFICATES);
    Ok(ExtendedReport {
        report: response.report.to_vec(),
        certificates: supplied(&table.0[..length]),
    })
}

/// exitinfo2 says who refused; without it, it was the kernel.
fn judge(answered: nix::Result<i32>, error: u64) -> Result<(), GuestError> {
    let (host, firmware) = ((error >> 32) as u32, error as u32);
    match answered {
        // Since 5.19 some errors of the host come with a call that succeeded.
        _ if host != 0 => Err(GuestError::Host { error: host }),
        Ok(_) => Ok(()),
        // All ones: the firmware was never asked.
        Err(_) if firmware != 0 && firmware != u32::MAX => Err(GuestError::Firmware { status: firmware }),
        Err(errno) => Err(GuestError::Kernel(errno.into())),
    }
}

/// A host without certificates leaves the table as it was.
fn supplied(table: &[u8]) -> Vec<u8> {
    match table.iter().any(|byte| *byte != 0) {
        true => table.to_vec(),
        false => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_another_or_none_is_the_kernels_refusal() {
        for path in ["/dev/null", "/nonexistent"] {
            let refused = extended_report(Path::new(path), &[7; 64], 0).expect_err("no sev-guest");
            assert!(matches!(refused, GuestError::Kernel(_)), "{refused}");
        }
    }

    #[test]
    fn who_refused_is_told_apart() {
        use nix::errno::Errno::EIO;
        assert!(judge(Ok(0), 0).is_ok());
        assert!(matches!(judge(Err(EIO), 2 << 32), Err(GuestError::Host { error: 2 })));
        assert!(matches!(judge(Ok(0), 1 << 32), Err(GuestError::Host { error: 1 })));
        assert!(matches!(
            judge(Err(EIO), 0x16),
            Err(GuestError::Firmware { status: 0x16 })
        ));
        assert!(matches!(
            judge(Err(EIO), u64::from(u32::MAX)),
            Err(GuestError::Kernel(_))
        ));
    }

    #[test]
    fn an_untouched_table_is_no_table() {
        assert_eq!(supplied(&[0; 64]), Vec::<u8>::new());
        assert_eq!(supplied(&[0, 1, 0]), [0, 1, 0]);
    }

    /// _IOWR('S', 2, struct snp_guest_request_ioctl) as the C headers give it.
    #[test]
    fn the_request_code_is_the_kernels() {
        assert_eq!(
            nix::request_code_readwrite!(b'S', 0x2, size_of::<GuestRequest>()),
            0xc020_5302
        );
    }
}
