//! The digest of an audit session (Part 1, 19.6.5): for each audited command, in order, H(digest ‖ cpHash ‖ rpHash), from zeros. It
//! says that the TPM itself gave these attestations one after the other, and, while the session was exclusive, did nothing between.

use super::sequence::{Component, Kind, NvPcr};
use crate::tpm::wire::put_sized;
use crate::tpm::{Hash, Name, alg};

/// TPM_CC (Part 2, 6.5.2).
const QUOTE: u32 = 0x0000_0158;
const NV_CERTIFY: u32 = 0x0000_0184;
/// TPM_RC_SUCCESS.
const SUCCESS: u32 = 0;

/// A command that was audited: code, Names of its handles, parameters.
struct Command<'a> {
    code: u32,
    names: Vec<&'a [u8]>,
    parameters: Vec<u8>,
}

/// The digest after every audited one of `components`; `None` when one of them cannot have been such a command.
pub(super) fn digest(hash: Hash, key: &Name, components: &[Component]) -> Option<Vec<u8>> {
    let mut digest = vec![0; hash.len()];
    for component in components {
        let nv_name;
        let command = match &component.kind {
            Kind::Pcr => quote(key, component)?,
            Kind::NvPcr(index) => {
                nv_name = name_of(index)?;
                nv_certify(key, &nv_name, index, component)?
            }
            // It reads the digest and is not in it.
            Kind::SessionAudit { .. } => continue,
        };
        let code = command.code.to_be_bytes();
        let mut cp: Vec<&[u8]> = vec![&code];
        cp.extend(&command.names);
        cp.push(&command.parameters);
        let mut answer = Vec::new();
        put_sized(&mut answer, &component.attest);
        answer.extend(&component.signature);
        let cp_hash = hash.digest(&cp);
        let rp_hash = hash.digest(&[&SUCCESS.to_be_bytes(), &code, &answer]);
        digest = hash
            .digest(&[&digest, cp_hash.as_ref(), rp_hash.as_ref()])
            .as_ref()
            .to_vec();
    }
    Some(digest)
}

/// The Name of an NV index (Part 1, 16).
pub(super) fn name_of(index: &NvPcr) -> Option<Name> {
    Some(Name::of(Hash::from_alg(index.name_alg)?, &index.public))
}

/// TPM2_Quote (Part 3, 18.4) without qualifying data, by the key's own scheme.
fn quote<'a>(key: &'a Name, component: &Component) -> Option<Command<'a>> {
    let mut parameters = vec![0, 0];
    parameters.extend(alg::NULL.to_be_bytes());
    parameters.extend(super::verify::selection(&component.attest)?);
    Some(Command {
        code: QUOTE,
        names: vec![key.as_ref()],
        parameters,
    })
}

/// TPM2_NV_Certify (Part 3, 31.16) of the whole index, authorised by itself.
fn nv_certify<'a>(key: &'a Name, nv: &'a Name, index: &NvPcr, component: &Component) -> Option<Command<'a>> {
    let mut parameters = Vec::new();
    put_sized(&mut parameters, super::verify::extra_data(&component.attest)?);
    parameters.extend(alg::NULL.to_be_bytes());
    parameters.extend(index.data_size.to_be_bytes());
    parameters.extend([0, 0]);
    Some(Command {
        code: NV_CERTIFY,
        names: vec![key.as_ref(), nv.as_ref(), nv.as_ref()],
        parameters,
    })
}
