//! `rempart policy`: reference values for the Verifier. Everything here works on files, without agent, Verifier or network.

use std::process::ExitCode;

use rempart_attest::Policy;

/// Command line.
mod arguments;
/// `corim export` and `import`.
mod corim;
/// Reading and writing within bounds.
mod file;
/// `diff`, `explain` and `test`.
mod judge;
/// `learn`.
mod learn;
/// `predict`.
mod predict;
/// `sign` and `verify`.
mod sign;

pub use arguments::PolicyCommand;
pub use file::print_json;

use self::arguments::CorimCommand;
use crate::failure::Failure;

/// Does what was asked.
pub fn run(asked: &PolicyCommand) -> Result<ExitCode, Failure> {
    match asked {
        PolicyCommand::Predict(told) => predict::predict(told),
        PolicyCommand::Learn(told) => learn::learn(told),
        PolicyCommand::Diff(told) => judge::diff(told),
        PolicyCommand::Explain(told) => judge::explain(told),
        PolicyCommand::Test(told) => judge::test(told),
        PolicyCommand::Sign(told) => sign::sign(told),
        PolicyCommand::Verify(told) => sign::verify(told),
        PolicyCommand::Corim(CorimCommand::Export(told)) => corim::export(told),
        PolicyCommand::Corim(CorimCommand::Import(told)) => corim::import(told),
    }
}

/// A policy that the Verifier will take, on standard output.
fn print(policy: &Policy, json: bool) -> Result<ExitCode, Failure> {
    policy.judge().map_err(|error| Failure::Input {
        path: format!("policy \"{}\"", policy.name),
        why: error.to_string(),
    })?;
    if json {
        file::print_json(policy)?;
    } else {
        print!("{}", policy.to_toml());
    }
    Ok(ExitCode::SUCCESS)
}
