//! What a hypervisor finds in the guest's memory, and in what kind of page each copy lies: ours must lie in secret memory only.
//!
//! The memory is that of an armed node at one moment; pages that are not secret are then told apart by the guest's own kernel, for which
//! the owner lifts the guard's `machine`. Controls of a process that nobody protects show that each kind is told.

mod told;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::Context;
use tempfile::TempDir;

use crate::{
    memory::{Flags, Frame, KernelMap, Memory, Needle, Processor, Program, find, programs},
    node::Node,
    promise::break_glass,
    report::{Outcome, Report},
    stage::Stage,
};
use told::{Told, What, judge, tell};

/// Holds each control once in its kind of memory. They come masked, so that none passes through the channel; without huge pages
/// (PR_SET_THP_DISABLE) nothing moves them.
const CONTROL: &str = r#"
import ctypes,mmap,os,sys,time
heap,secret,shared=(bytes.fromhex(word) for word in sys.argv[1:])
libc=ctypes.CDLL(None,use_errno=True)
libc.prctl(41,1,0,0,0)
held=bytes(byte^0x5a for byte in heap)
fd=libc.syscall(447,0)
os.ftruncate(fd,4096)
area=mmap.mmap(fd,4096)
for at,byte in enumerate(secret): area[at]=byte^0x5a
open('/dev/shm/guest-memory-control','wb').write(bytes(byte^0x5a for byte in shared))
open('/run/guest-memory-ready','w').close()
time.sleep(900)
"#;

/// Prints the flags of each frame named on standard input.
const FLAGS: &str = r#"
import os,struct,sys
fd=os.open('/proc/kpageflags',os.O_RDONLY)
for word in sys.stdin.read().split(): print(struct.unpack('<Q',os.pread(fd,8,8*int(word)))[0])
"#;

pub fn play(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    // Delivered several times, also from the Verifier's own store where that is in use: what a delivery leaves behind adds up.
    let idle = "demo-idle.service";
    started(stage.node()?.start_raw(idle)?, idle)?;
    with_the_vault(stage)?;
    // Not in the run's own folder, which is searched for secrets afterwards.
    let scratch = TempDir::with_prefix("rempart-memory")?;
    let controls = ["heap", "secret", "shared"]
        .map(|word| format!("{word}-{:032x}", u128::from(std::process::id()) * 0x9e37_79b9_7f4a_7c15));
    let wanted = wanted(stage, &controls)?;
    let node = stage.node()?;
    start_control(node, &controls)?;
    for unit in ["demo-db.service", "demo-web.service"] {
        started(node.start_raw(unit)?, unit)?;
    }
    for _ in 0..2 {
        started(node.restart_raw(idle)?, idle)?;
    }

    let (memory, processors) = node.snapshot(scratch.path())?;
    let kernel = kernel_map(&memory, &processors)?;
    let programs = programs(&memory, &kernel);
    let needles: Vec<_> = wanted.iter().map(|(_, needle)| needle.clone()).collect();
    let copies = find(&memory, &needles)?;
    let secret: BTreeSet<Frame> = programs
        .iter()
        .flat_map(Program::frames)
        .filter(|frame| !kernel.direct(*frame))
        .collect();
    let looked_at = format!(
        "{} of {} frames in the direct map, {} frames outside it belong to the {} programs that run",
        kernel.direct_frames(),
        memory.frames(),
        secret.len(),
        programs.len()
    );
    drop(memory);

    break_glass::lift(stage, "machine")?;
    let node = stage.node()?;
    let frames: Vec<Frame> = copies
        .iter()
        .map(|copy| copy.frame)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let flags = flags(node, &frames)?;
    let now: BTreeMap<Frame, Vec<u8>> = frames
        .iter()
        .copied()
        .zip(node.frames(&frames, scratch.path())?)
        .collect();
    let told: Vec<Told> = copies
        .iter()
        .map(|copy| tell(copy, wanted[copy.needle].0, &kernel, &programs, &flags, &now))
        .collect();
    node.sh("rempart break-glass end; systemctl stop guest-memory-control; rm -f /dev/shm/guest-memory-control")?;
    judge(&told, &looked_at, report);
    Ok(())
}

fn started((seen, line): (Outcome, String), unit: &str) -> anyhow::Result<()> {
    anyhow::ensure!(seen == Outcome::Works, "{unit} does not start: {line}");
    Ok(())
}

/// Earlier promises may have left the node at the Verifier's own store: there is no vault token then.
fn with_the_vault(stage: &mut Stage) -> anyhow::Result<()> {
    const STORE: &str = "/etc/rempart/conf.d/50-store.toml";
    if stage.site().bao.is_none() || stage.node()?.sh(&format!("test -e {STORE}"))?.rc != 0 {
        return Ok(());
    }
    break_glass::lift(stage, "files")?;
    let node = stage.node()?;
    node.sh(&format!("rm {STORE}"))?;
    node.restart_agent()?;
    node.sh("rempart break-glass end")?;
    let state = node.wait_word("unlocked", Duration::from_secs(120))?;
    anyhow::ensure!(state.word == "unlocked", "{}: {}", state.word, state.reason);
    Ok(())
}

fn wanted(stage: &mut Stage, controls: &[String; 3]) -> anyhow::Result<Vec<(What, Needle)>> {
    let site = stage.site();
    let number = site.tls_key_number()?;
    let limbs = number.iter().rev().copied().collect();
    let bytes = |text: &str| Needle::Bytes(text.as_bytes().to_vec());
    let [heap, secret, shared] = controls;
    Ok(vec![
        (What::OrdinaryControl, bytes(heap)),
        (What::SecretControl, bytes(secret)),
        (What::SharedControl, bytes(shared)),
        (What::Password, bytes(&site.db_password)),
        (What::TlsKeyText, Needle::Bytes(site.tls_key_line().to_vec())),
        (What::TlsKeyNumber, Needle::Bytes(number)),
        (What::TlsKeyLimbs, Needle::Bytes(limbs)),
        (What::Unread, bytes(&site.unread)),
        (What::VaultToken, Needle::VaultToken),
        (What::Result, Needle::WebToken),
    ])
}

fn start_control(node: &Node, controls: &[String; 3]) -> anyhow::Result<()> {
    node.exec_stdin(&["/usr/bin/tee", "/run/guest-memory-control.py"], CONTROL)?;
    let masked = controls
        .each_ref()
        .map(|text| hex::encode(text.bytes().map(|byte| byte ^ 0x5a).collect::<Vec<_>>()));
    node.sh(&format!(
        "systemd-run --quiet --unit=guest-memory-control /usr/bin/python3 /run/guest-memory-control.py {}",
        masked.join(" ")
    ))?;
    let ready = node.wait_for("ls /run/guest-memory-ready", "ready", Duration::from_secs(60))?;
    anyhow::ensure!(
        ready.contains("ready"),
        "the control does not run: {}",
        node.sh("journalctl -b -u guest-memory-control -o cat")?.stdout
    );
    Ok(())
}

fn kernel_map(memory: &Memory, processors: &[Processor]) -> anyhow::Result<KernelMap> {
    let roots = processors
        .iter()
        .flat_map(|cpu| cpu.roots().map(|root| (root, cpu.levels())));
    let maps = roots.filter_map(|(root, levels)| KernelMap::read(memory, root, levels));
    maps.max_by_key(KernelMap::direct_frames)
        .context("no direct map in the page tables of any processor")
}

fn flags(node: &Node, frames: &[Frame]) -> anyhow::Result<BTreeMap<Frame, Flags>> {
    let numbers: String = frames.iter().map(|frame| format!("{}\n", frame.0)).collect();
    let out = node.exec_stdin(&["/usr/bin/python3", "-c", FLAGS], &numbers)?;
    let flags: Vec<Flags> = out
        .stdout
        .lines()
        .filter_map(|line| line.parse().ok().map(Flags))
        .collect();
    anyhow::ensure!(flags.len() == frames.len(), "/proc/kpageflags: {}", out.stderr);
    Ok(frames.iter().copied().zip(flags).collect())
}
