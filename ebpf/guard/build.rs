//! Compiles ebpf/bpf into the two objects that the guard carries: enforcement, and observation where that cannot be had. Needs clang with the BPF target and
//! libbpf's headers.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Newest first; -14 to -19 were seen to give objects that load alike.
const CLANGS: &[&str] = &[
    "clang-19", "clang-18", "clang-17", "clang-16", "clang-15", "clang-14", "clang",
];

fn main() {
    let sources = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../bpf");
    println!("cargo::rerun-if-changed={}", sources.display());
    println!("cargo::rerun-if-env-changed=REMPART_CLANG");
    for entry in fs::read_dir(&sources)
        .expect("ebpf/bpf lies beside ebpf/guard")
        .flatten()
    {
        println!("cargo::rerun-if-changed={}", entry.path().display());
    }
    let Some(clang) = clang() else {
        fail("no clang found to compile the BPF programs: install clang (14 or newer), or name one in REMPART_CLANG");
    };
    let machine = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets it");
    let (macro_name, triplet) = match machine.as_str() {
        "x86_64" => ("__TARGET_ARCH_x86", "x86_64-linux-gnu"),
        "aarch64" => ("__TARGET_ARCH_arm64", "aarch64-linux-gnu"),
        other => fail(&format!("the BPF programs are not written for {other}")),
    };
    for name in ["rempart.bpf", "observe.bpf"] {
        compile(&clang, &sources, name, macro_name, triplet);
    }
}

fn compile(clang: &str, sources: &Path, name: &str, macro_name: &str, triplet: &str) {
    let object = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join(format!("{name}.o"));
    let output = Command::new(clang)
        .args(["-g", "-O2", "-mcpu=v3", "-target", "bpf", "-Wall", "-Werror"])
        .arg(format!("-D{macro_name}"))
        .arg(format!("-I/usr/include/{triplet}"))
        .arg(format!("-ffile-prefix-map={}=ebpf/bpf", sources.display()))
        .arg("-c")
        .arg(sources.join(format!("{name}.c")))
        .arg("-o")
        .arg(&object)
        .output();
    match output {
        Ok(done) if done.status.success() => {}
        Ok(done) => {
            let said = String::from_utf8_lossy(&done.stderr);
            let hint = if said.contains("bpf/bpf_helpers.h") {
                " (install libbpf-dev)"
            } else {
                ""
            };
            fail(&format!("{clang} could not compile the BPF programs{hint}:\n{said}"));
        }
        Err(error) => fail(&format!("{clang} cannot be run: {error}")),
    }
}

fn clang() -> Option<String> {
    if let Ok(named) = env::var("REMPART_CLANG") {
        return Some(named);
    }
    CLANGS
        .iter()
        .find(|name| {
            Command::new(name)
                .arg("--version")
                .output()
                .is_ok_and(|o| o.status.success())
        })
        .map(|name| (*name).to_owned())
}

fn fail(why: &str) -> ! {
    eprintln!("{why}");
    std::process::exit(1)
}
