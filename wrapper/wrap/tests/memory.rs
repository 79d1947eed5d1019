//! Whether root can read a secret in the wrapper's memory: it is stopped at each of its system calls, and all of its memory searched.
//!
//! The secret is delivered as a plain variable, so once the service has taken the process over, the same search finds it there.
//! Needs root, for a socket at the agent's place that only the wrapper sees.

use std::{
    io::{BufRead, BufReader},
    os::{
        fd::AsFd,
        unix::{net::UnixListener, process::CommandExt},
    },
    path::Path,
    process::{Child, Command},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::wait::{WaitStatus, waitpid},
    unistd::Pid,
};
use rempart_api::path::AGENT_SOCKET;
use rempart_harness::scan::{Needle, scan};
use rempart_secretmem::{Area, send_line};

const VALUE: &[u8] = b"correct horse battery staple";
const CONTROL: &str = "a control that every scan must find";

/// In the agent's place: answers one question with the secret.
fn release(listener: &UnixListener) {
    let (socket, _) = listener.accept().expect("the wrapper");
    let mut question = String::new();
    BufReader::new(&socket).read_line(&mut question).expect("a question");
    let mut area = Area::create(VALUE.len()).expect("memfd_secret");
    area.as_mut_slice().copy_from_slice(VALUE);
    let len = VALUE.len();
    let answer = format!(
        "{{\"v\":1,\"area_len\":{len},\"items\":[{{\"name\":\"KEY\",\"deliver\":\"env\",\"offset\":0,\"len\":{len}}}]}}\n"
    );
    let descriptor = area.into_descriptor();
    send_line(socket.as_fd(), answer.as_bytes(), &[descriptor.as_fd()]).expect("sent");
}

/// One ptrace(2) request without an address.
fn trace(request: libc::c_uint, pid: Pid, data: libc::c_long) -> std::io::Result<()> {
    // SAFETY: these requests take numbers only and touch no memory of ours.
    match unsafe { libc::ptrace(request, pid.as_raw(), 0, data) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// The wrapper, traced from its first instruction, with `folder` in the place of the agent's.
fn start(folder: &Path) -> Child {
    let place = Path::new(AGENT_SOCKET).parent().expect("a folder");
    std::fs::create_dir_all(place).expect("root");
    let mut command = Command::new(env!("CARGO_BIN_EXE_rempart-wrap"));
    command.args(["--", "/bin/true"]).env_clear().env("CONTROL", CONTROL);
    let folder = folder.to_owned();
    let own = move || {
        let none = None::<&str>;
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        mount(Some(&folder), place, none, MsFlags::MS_BIND, none)?;
        trace(libc::PTRACE_TRACEME, Pid::from_raw(0), 0)
    };
    // SAFETY: between fork and exec only system calls are made, on strings and paths made before.
    unsafe { command.pre_exec(own) }.spawn().expect("starts")
}

#[test]
#[ignore = "needs root; ./x test runs it as root"]
fn at_no_system_call_of_the_wrapper_is_the_secret_in_memory_that_root_can_read() {
    let folder = tempfile::tempdir().expect("folder");
    let listener = UnixListener::bind(folder.path().join("agent.sock")).expect("socket");
    let sent = Arc::new(AtomicBool::new(false));
    let released = sent.clone();
    std::thread::spawn(move || {
        release(&listener);
        released.store(true, Ordering::SeqCst);
    });
    let needles = [Needle::new("value", VALUE), Needle::new("control", CONTROL.as_bytes())];
    let mut child = start(folder.path());
    let number = child.id();
    let pid = Pid::from_raw(i32::try_from(number).expect("a pid"));
    assert!(
        matches!(waitpid(pid, None).expect("a child"), WaitStatus::Stopped(..)),
        "at exec"
    );
    let options = libc::PTRACE_O_TRACEEXEC | libc::PTRACE_O_TRACESYSGOOD;
    trace(libc::PTRACE_SETOPTIONS, pid, options.into()).expect("traced");
    let (mut stops, mut with_secret) = (0, 0);
    loop {
        trace(libc::PTRACE_SYSCALL, pid, 0).expect("goes on");
        match waitpid(pid, None).expect("a child") {
            WaitStatus::PtraceSyscall(_) => {
                let seen = scan(number, &needles).expect("readable for root");
                assert!(
                    seen.found.contains_key("control"),
                    "a look that finds nothing proves nothing"
                );
                assert!(
                    !seen.found.contains_key("value"),
                    "after {stops} stops: {:?}",
                    seen.found
                );
                stops += 1;
                with_secret += u32::from(sent.load(Ordering::SeqCst) && seen.secret > 0);
            }
            WaitStatus::PtraceEvent(..) => break,
            WaitStatus::Stopped(..) => {}
            other => panic!("{other:?}"),
        }
    }
    println!("{stops} stops, {with_secret} of them with the secret");
    assert!(with_secret >= 10, "{with_secret} of {stops} stops");
    let seen = scan(number, &needles).expect("readable for root");
    assert!(
        seen.found.contains_key("value"),
        "the service's own plain variable: {:?}",
        seen.found
    );
    child.kill().expect("ours");
    child.wait().expect("ended");
}
