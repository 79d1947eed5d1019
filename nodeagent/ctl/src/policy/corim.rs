//! `rempart policy corim`: Reference Values in and out of the IETF's format.

use std::process::ExitCode;

use rempart_attest::{
    limits,
    policy::{
        Policy,
        corim::{self, SigningKey},
    },
};
use serde_json::json;

use super::{
    arguments::{Export, Import},
    file,
};
use crate::failure::Failure;

/// An unsigned CoRIM into a file.
pub fn export(told: &Export) -> Result<ExitCode, Failure> {
    let policy = file::policy(&told.policy)?;
    let unsaid = corim::unsaid(&policy);
    if !told.values_only
        && let Some(first) = unsaid.first()
    {
        let why = format!("a CoRIM cannot say: {first}; --values-only leaves that out");
        return Err(file::fail(&told.policy, why));
    }
    for left_out in &unsaid {
        eprintln!("rempart: warning: left out: {}", crate::talk::one_line(left_out));
    }
    let bytes = corim::export(&policy).map_err(|error| file::fail(&told.policy, error))?;
    file::replace(&told.output, &bytes)?;
    let shown = told.output.display().to_string();
    if told.json {
        file::print_json(&json!({ "file": shown, "bytes": bytes.len(), "left_out": unsaid }))?;
    } else {
        println!(
            "{} image(s) of policy \"{}\" in {shown}",
            policy.images.len(),
            policy.name
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// A policy on standard output.
pub fn import(told: &Import) -> Result<ExitCode, Failure> {
    let bytes = file::read(&told.file, limits::CORIM)?;
    let key = match &told.key {
        Some(path) => {
            let pem = file::read_text(path, limits::CERTIFICATE)?;
            Some(SigningKey::from_pem(&pem).map_err(|why| file::fail(path, why))?)
        }
        None => None,
    };
    let now = file::moment(told.at);
    let policy = corim::import(&bytes, key.as_ref(), now).map_err(|error| file::fail(&told.file, error))?;
    let policy = Policy {
        require_guard: told.require_guard,
        ..policy
    };
    super::print(&policy, told.json)
}
