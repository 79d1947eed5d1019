//! rempart-guard: loads the BPF programs, pins them, labels tasks for the agent and passes on what the
//! programs saw. Has CAP_BPF and CAP_PERFMON and nothing else; never speaks to a network, and never ends
//! because the kernel cannot enforce: it then says so by name.
//!
//! One thread per connection, one that reads the rings; no async run time in a privileged process.

/// Judges break-glass tokens.
mod breakglass;
/// Aggregates denials into journal lines.
mod digest;
/// The programs attached to the kernel, or why they are not.
mod enforcement;
/// Where events go: subscribers and journal.
mod feed;
/// Foreign BPF programs that the owner has listed.
mod foreign;
/// Puts programs and maps into the kernel and pins them.
mod install;
/// Fingerprints of units' secrets.
mod leak;
/// Our view of the pinned maps.
mod maps;
/// Readiness and watchdog messages to systemd.
mod notify;
/// What is seen where nothing can be enforced.
mod observer;
/// The command line.
mod options;
/// Drops what the guard does not need.
mod privilege;
/// The programs and the hooks they belong to.
mod programs;
/// System calls that no safe wrapper covers.
mod raw;
/// Which files are Rempart's own.
mod seal;
/// The socket.
mod server;
/// Takes over what an earlier guard has pinned.
mod takeover;
/// Who may ask what.
mod warden;

use std::process::ExitCode;

fn main() -> ExitCode {
    let options = match options::Options::from_args(std::env::args_os().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("rempart-guard: {error}");
            return ExitCode::from(rempart_api::exit::USAGE);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("<3>rempart-guard: {error}");
            ExitCode::from(rempart_api::exit::OS)
        }
    }
}

fn run(options: &options::Options) -> Result<(), server::ServerError> {
    privilege::drop_all_but_bpf();
    // Before any other thread: the executables are learnt from what this process opens meanwhile.
    let enforcement = enforcement::Enforcement::establish(options);
    let listener = server::listen(&options.socket)?;
    let feed = feed::Feed::default();
    let warden = std::sync::Arc::new(warden::Warden::new(enforcement, options.clone()));
    server::serve(listener, std::sync::Arc::clone(&warden), feed.clone());
    notify::ready(&warden.status());
    feed::run(&warden, &feed)
}
