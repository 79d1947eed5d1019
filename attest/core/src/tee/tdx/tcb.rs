//! How old a platform is (Intel's verification algorithm for TDX TCB info, version 3): the first level all of whose SVNs the
//! platform reaches. Levels stand newest first.

use serde::{Deserialize, Serialize};

use super::pck::Pck;
use super::quote::Body;
use crate::bytes::Fixed;

/// What Intel calls an age. The order is from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TcbStatus {
    /// Nothing is known against it.
    UpToDate,
    /// Software inside must take measures of its own.
    #[serde(rename = "SWHardeningNeeded")]
    SwHardeningNeeded,
    /// The platform must be set up otherwise.
    ConfigurationNeeded,
    /// Both.
    #[serde(rename = "ConfigurationAndSWHardeningNeeded")]
    ConfigurationAndSwHardeningNeeded,
    /// Updates are missing.
    OutOfDate,
    /// Updates are missing, and it must be set up otherwise.
    OutOfDateConfigurationNeeded,
    /// Its keys are known to be lost.
    Revoked,
}

impl TcbStatus {
    /// The worse of two.
    pub(crate) fn worst(self, other: Self) -> Self {
        self.max(other)
    }
}

/// What Intel says of a platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluated {
    /// Its age.
    pub status: TcbStatus,
    /// Intel's advisories that apply.
    pub advisories: Vec<String>,
}

/// TCB info, as far as it is judged.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TcbInfo {
    pub id: String,
    pub version: u32,
    pub issue_date: String,
    pub next_update: String,
    pub fmspc: Fixed<6>,
    pce_id: Fixed<2>,
    tdx_module: Module,
    #[serde(default)]
    tdx_module_identities: Vec<ModuleIdentity>,
    tcb_levels: Vec<Level>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Module {
    mrsigner: Fixed<48>,
    attributes: Fixed<8>,
    attributes_mask: Fixed<8>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ModuleIdentity {
    id: String,
    #[serde(flatten)]
    module: Module,
    tcb_levels: Vec<ModuleLevel>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ModuleLevel {
    tcb: ModuleSvn,
    tcb_status: TcbStatus,
    #[serde(default, rename = "advisoryIDs")]
    advisories: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct ModuleSvn {
    isvsvn: u16,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Level {
    tcb: LevelTcb,
    tcb_status: TcbStatus,
    #[serde(default, rename = "advisoryIDs")]
    advisories: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct LevelTcb {
    sgxtcbcomponents: [Component; 16],
    pcesvn: u16,
    tdxtcbcomponents: [Component; 16],
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Component {
    svn: u8,
}

/// Why a statement says nothing on a platform.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TcbError {
    /// Another provisioning certification enclave.
    #[error("Intel's TCB info is for another PCE than this platform's")]
    Pce,
    /// A TDX module that the statement does not describe.
    #[error("Intel's TCB info does not describe this platform's TDX module")]
    Module,
    /// Older than the oldest level.
    #[error("the platform is older than any that Intel's TCB info describes")]
    NoLevel,
}

/// Finds the platform's level. `TEE_TCB_SVN[1]` is the major version of the TDX module: from 1 on, modules have identities of
/// their own, and the first two SVNs are theirs and not the platform's.
pub(crate) fn evaluate(info: &TcbInfo, body: &Body, pck: &Pck) -> Result<Evaluated, TcbError> {
    if info.pce_id != pck.pce_id {
        return Err(TcbError::Pce);
    }
    let svn = body.tee_tcb_svn.0;
    let module = module(info, body)?;
    let own = usize::from(svn[1] > 0) * 2;
    let reaches = |level: &&Level| {
        let sgx = pck.components.iter().zip(&level.tcb.sgxtcbcomponents);
        let tdx = svn.iter().zip(&level.tcb.tdxtcbcomponents).skip(own);
        sgx.chain(tdx).all(|(have, want)| *have >= want.svn) && pck.pce_svn >= level.tcb.pcesvn
    };
    let level = info.tcb_levels.iter().find(reaches).ok_or(TcbError::NoLevel)?;
    if own == 0 && level.tcb.tdxtcbcomponents[1].svn != svn[1] {
        return Err(TcbError::NoLevel);
    }
    let mut evaluated = Evaluated {
        status: level.tcb_status,
        advisories: level.advisories.clone(),
    };
    if let Some(module) = module {
        evaluated.status = evaluated.status.worst(module.tcb_status);
        evaluated.advisories.extend(module.advisories.iter().cloned());
    }
    Ok(evaluated)
}

/// The module is Intel's; with identities, the level of this one.
fn module<'a>(info: &'a TcbInfo, body: &Body) -> Result<Option<&'a ModuleLevel>, TcbError> {
    let svn = body.tee_tcb_svn.0;
    let is_described = |module: &Module| {
        let attributes = body.seam_attributes.to_le_bytes();
        let masks = attributes
            .iter()
            .zip(&module.attributes_mask.0)
            .zip(&module.attributes.0);
        body.mr_signer_seam == module.mrsigner && masks.into_iter().all(|((have, mask), want)| have & mask == *want)
    };
    if svn[1] == 0 {
        return if is_described(&info.tdx_module) {
            Ok(None)
        } else {
            Err(TcbError::Module)
        };
    }
    let name = format!("TDX_{:02X}", svn[1]);
    let identity = info.tdx_module_identities.iter().find(|identity| identity.id == name);
    let identity = identity.filter(|i| is_described(&i.module)).ok_or(TcbError::Module)?;
    let level = identity
        .tcb_levels
        .iter()
        .find(|level| u16::from(svn[0]) >= level.tcb.isvsvn);
    level.map(Some).ok_or(TcbError::Module)
}
