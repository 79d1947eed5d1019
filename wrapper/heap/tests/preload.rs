//! The library in a program that knows nothing of it (`program.c`): its heap is secret, a child by fork has one of its own, and
//! a refusal is told and harms nobody.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use rempart_harness::scan::{Needle, scan};

/// The library: cargo puts it beside this test.
fn library() -> PathBuf {
    let test = std::env::current_exe().expect("this program");
    test.parent().expect("a folder").join("librempart_heap.so")
}

/// The program, compiled once.
fn program() -> &'static PathBuf {
    static PROGRAM: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = PROGRAM.get_or_init(|| {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("program");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/program.c");
        // The compiler must not remove an allocation because it knows what malloc does.
        let status = Command::new("gcc")
            .args(["-O1", "-Wall", "-Werror", "-pthread", "-fno-builtin", "-o"])
            .arg(&path)
            .arg(source)
            .status()
            .expect("gcc");
        assert!(status.success());
        (folder, path)
    });
    path
}

/// Runs it with the library, and with `before` in front, such as prlimit(1) and its options.
fn run(before: &[&str], what: &str, heap: &str) -> Output {
    let mut words = before.iter().map(PathBuf::from).chain([program().clone()]);
    // The library goes to the program alone: what is in front would use its memory.
    let preload = format!("LD_PRELOAD={}", library().display());
    let size = format!("REMPART_HEAP={heap}");
    let last = words.next_back().expect("the program");
    let mut all: Vec<PathBuf> = words.collect();
    all.extend([PathBuf::from("env"), preload.into(), size.into(), last]);
    let output = Command::new("timeout").arg("100").args(&all).arg(what).output();
    let output = output.expect("started");
    // The loader only warns of a library that it does not find.
    assert!(!String::from_utf8_lossy(&output.stderr).contains("ld.so"), "{output:?}");
    output
}

fn goes_well(what: &str) {
    let output = run(&[], what, "67108864");
    assert!(output.status.success(), "{what}: {output:?}");
    assert!(output.stderr.is_empty(), "{what}: {output:?}");
}

#[test]
fn every_block_of_every_name_is_secret_and_so_is_what_a_constructor_made() {
    goes_well("heap");
}

#[test]
fn parent_and_child_by_fork_share_no_page() {
    goes_well("fork");
    goes_well("bare-fork");
}

#[test]
fn a_process_with_threads_and_open_streams_forks() {
    goes_well("threads");
}

#[test]
fn the_program_s_own_handler_of_faults_stays() {
    goes_well("faults");
}

#[test]
fn handlers_around_a_fork_may_use_the_heap() {
    goes_well("handlers");
}

#[test]
fn children_are_started_by_every_way_of_the_c_library() {
    goes_well("started");
}

#[test]
fn a_child_past_the_c_library_has_no_heap_and_ends() {
    goes_well("raw");
}

/// In front of the program: without the right to exceed the limit of `bytes` of locked memory.
fn limited(what: &str, bytes: &str) -> Output {
    let limit = format!("--memlock={bytes}:{bytes}");
    let before = [
        "setpriv",
        "--inh-caps=-ipc_lock",
        "--bounding-set=-ipc_lock",
        "prlimit",
        &limit,
    ];
    run(&before[if is_root() { 0 } else { 3 }..], what, "67108864")
}

fn is_root() -> bool {
    // SAFETY: takes nothing and cannot fail (geteuid(2)).
    unsafe { libc::geteuid() == 0 }
}

#[test]
fn a_fork_without_room_for_the_copy_fails_and_the_parent_goes_on() {
    let output = limited("refused", "8000000");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(said.matches("rempart: this program cannot fork:").count(), 1, "{said}");
    assert!(said.contains("raise LimitMEMLOCK="), "{said}");
}

#[test]
fn a_fork_whose_room_is_gone_at_the_last_moment_fails_too() {
    let output = limited("refused-late", "8000000");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_full_heap_gives_null_and_one_line_that_says_what_to_raise() {
    let output = run(&[], "full", "4194304");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{output:?}");
    let got: usize = String::from_utf8_lossy(&output.stdout).parse().expect("bytes");
    assert!((3_500_000..4_194_304).contains(&got), "{got}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("raise MemorySize="), "{said}");
}

#[test]
fn no_line_goes_into_a_connection_that_has_the_number_of_stderr() {
    goes_well("full-connection");
}

#[test]
fn a_damaged_size_or_a_limit_too_small_for_any_heap_ends_the_program_before_main() {
    let output = run(&[], "heap", "a lot");
    assert_eq!(output.status.code(), Some(71), "{output:?}");
    let output = limited("heap", "65536");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("raise LimitMEMLOCK="),
        "{output:?}"
    );
}

#[test]
fn neither_in_the_parent_nor_in_its_child_is_the_secret_in_memory_that_others_read() {
    let needles = [
        Needle::new("secret", b"correct horse battery staple"),
        Needle::new("control", b"a control that every scan must find"),
    ];
    for (heap, wanted) in [(false, true), (true, false)] {
        let mut command = Command::new(program());
        command
            .arg("sleep")
            .env("CONTROL", "a control that every scan must find");
        if heap {
            command.env("LD_PRELOAD", library());
        }
        let mut parent = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let mut input = parent.stdin.take().expect("piped");
        input.write_all(b"correct horse battery staple\n").expect("written");
        let mut line = String::new();
        BufReader::new(parent.stdout.take().expect("piped"))
            .read_line(&mut line)
            .expect("a line");
        let child: u32 = line.trim().strip_prefix("child ").expect("it").parse().expect("a pid");
        let scans = [parent.id(), child].map(|pid| scan(pid, &needles));
        // SAFETY: a pid of our own child's child, and a number.
        unsafe { libc::kill(i32::try_from(child).expect("a pid"), libc::SIGKILL) };
        parent.wait().expect("ended");
        for seen in scans {
            let seen = seen.expect("readable");
            assert!(
                seen.found.contains_key("control"),
                "a look that finds nothing proves nothing"
            );
            assert_eq!(seen.found.contains_key("secret"), wanted, "heap {heap}: {seen:?}");
            assert_eq!(seen.secret > 0, heap);
        }
    }
}
