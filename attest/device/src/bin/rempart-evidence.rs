//! rempart-evidence: hands the measurement logs, which only root may read, to rempartd. Started by systemd for one
//! connection (Accept=yes), which is its standard input and output. It reads no request and takes no argument.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use rempart_device::logs::Logs;

fn main() -> ExitCode {
    match Logs::collect().and_then(|logs| logs.write(std::io::stdout().lock())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rempart-evidence: {error}; nothing was sent, so this machine cannot attest until it is mended");
            ExitCode::from(rempart_api::exit::OS)
        }
    }
}
