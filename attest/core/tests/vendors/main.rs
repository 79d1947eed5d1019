//! Interop: reports that real hardware signed, under the roots that this crate pins. The data are other projects' test data, had
//! from their published packages by the packages' own clients at test time (`go`, `cargo`), pinned here by hash, kept in the clients'
//! caches and never in this tree. Where a client or the network is missing, the cases are skipped by name.

mod amd;
mod intel;
mod packages;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

/// A case with its name and the package that it needs.
struct Case {
    name: &'static str,
    package: packages::Package,
    run: fn(&packages::Files),
}

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let cases = amd::CASES.iter().chain(intel::CASES);
    let mut failed = 0;
    for case in cases.filter(|c| wanted.is_empty() || wanted.iter().any(|w| c.name.contains(w.as_str()))) {
        match case.package.fetch() {
            Err(why) => println!("test {} ... skipped ({why})", case.name),
            Ok(files) => match catch_unwind(AssertUnwindSafe(|| (case.run)(&files))) {
                Ok(()) => println!("test {} ... ok", case.name),
                Err(_) => {
                    failed += 1;
                    println!("test {} ... FAILED", case.name);
                }
            },
        }
    }
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
