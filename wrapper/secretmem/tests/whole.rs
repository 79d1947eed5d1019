//! This very test program is in secret memory whole: what the crate promises of such a process, seen from inside and, for
//! its ends, from outside.

use std::ffi::{CString, c_void};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rempart_secretmem::{Memory, Ordinary, memory, on_secret_stack, settle};

rempart_secretmem::whole_process!();

/// What the mapping around an address is called, or where it has no name.
fn mapping<T: ?Sized>(at: *const T) -> String {
    let at = at.cast::<u8>() as usize;
    let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
    maps.lines()
        .find(|line| {
            let (from, to) = line
                .split(' ')
                .next()
                .and_then(|range| range.split_once('-'))
                .expect("range");
            let number = |text| usize::from_str_radix(text, 16).expect("address");
            (number(from)..number(to)).contains(&at)
        })
        .expect("mapped")
        .to_owned()
}

fn is_secret<T: ?Sized>(at: *const T) -> bool {
    mapping(at).contains("secretmem")
}

#[test]
fn both_heaps_and_the_stacks_of_threads_are_secret() {
    let boxed = Box::new(7u8);
    assert!(is_secret(&raw const *boxed), "{}", mapping(&raw const *boxed));
    let text = CString::new("copied by the C library").expect("no NUL");
    // SAFETY: a C string in, a block of malloc out, given back once.
    unsafe {
        let copy = libc::strdup(text.as_ptr());
        assert!(is_secret(copy), "{}", mapping(copy));
        libc::free(copy.cast());
    }
    let large = vec![1u8; 9 << 20];
    assert!(is_secret(large.as_ptr()));
    let local = 0u8;
    assert!(
        is_secret(&raw const local),
        "a test runs in a thread: {}",
        mapping(&raw const local)
    );
    let threads: Vec<_> = (0..8)
        .map(|_| {
            thread::spawn(|| {
                let local = [0u8; 64];
                is_secret(&raw const local)
            })
        })
        .collect();
    assert!(threads.into_iter().all(|thread| thread.join().expect("joined")));
    assert_eq!(memory(), Memory::Secret);
}

#[test]
fn the_kernel_reads_heap_and_stacks_for_nobody() {
    let needle = Box::new(*b"hidden in the heap");
    let local = *b"hidden in the stack";
    let memory = std::fs::File::open("/proc/self/mem").expect("own memory");
    let mut copy = [0u8; 18];
    for at in [needle.as_ptr() as u64, local.as_ptr() as u64] {
        assert!(std::os::unix::fs::FileExt::read_exact_at(&memory, &mut copy, at).is_err());
    }
    // The control: what is not on them can be read by the same way.
    static OPEN: [u8; 18] = *b"open in the binary";
    std::os::unix::fs::FileExt::read_exact_at(&memory, &mut copy, OPEN.as_ptr() as u64).expect("ordinary memory");
    assert_eq!(copy, OPEN);
}

#[test]
fn the_main_threads_work_moves_to_a_secret_stack_and_its_panic_comes_back() {
    let shared = AtomicBool::new(false);
    let answer = on_secret_stack(256 << 10, || {
        let local = [3u8; 1000];
        shared.store(is_secret(&raw const local), Ordering::SeqCst);
        local.iter().map(|b| u32::from(*b)).sum::<u32>()
    });
    assert_eq!((answer, shared.into_inner()), (3000, true));
    let panic = std::panic::catch_unwind(|| on_secret_stack(256 << 10, || panic!("out of there"))).expect_err("panics");
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"out of there"));
    let thread = thread::spawn(|| -> u8 { panic!("out of a thread") });
    assert!(thread.join().is_err());
    // Frames behind the change of stacks are found.
    let trace = on_secret_stack(1 << 20, || std::backtrace::Backtrace::force_capture().to_string());
    assert!(trace.contains("the_main_threads_work_moves"), "{trace}");
}

#[test]
fn a_thread_that_ends_gives_its_stack_back() {
    let secret = || {
        let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
        maps.lines().filter(|line| line.contains("secretmem")).count()
    };
    thread::spawn(|| ()).join().expect("joined");
    let before = secret();
    for _ in 0..300 {
        thread::spawn(|| ()).join().expect("joined");
    }
    let after = secret();
    // Other tests run beside this one.
    assert!(after < before + 40, "{before} regions, then {after}");
}

#[test]
fn what_is_given_back_is_wiped() {
    let mut block = Vec::with_capacity(4000);
    block.extend_from_slice(&[0xa5u8; 4000]);
    let at = block.as_ptr();
    drop(block);
    // SAFETY: reads memory of the arena, which stays mapped; another thread may write it meanwhile, and what it wrote is
    // not a long run of this byte. Volatile, as nothing may be concluded from what was stored there before.
    let left = (64..3900)
        .filter(|i| unsafe { at.add(*i).read_volatile() } == 0xa5)
        .count();
    assert!(left < 100, "{left} bytes are left");
}

/// A small generator, so that a failure can be had again.
fn next(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 16) as usize
}

#[test]
fn blocks_keep_their_content_size_and_alignment_under_random_use_by_many_threads() {
    let work = |seed: u64| {
        let mut state = seed;
        let mut blocks: Vec<(*mut u8, usize, u8)> = Vec::new();
        // SAFETY: the C contracts: each block is used within its size and given back once.
        unsafe {
            for round in 0..6000 {
                let size = match next(&mut state) % 20 {
                    0 => next(&mut state) % 300_000,
                    1 if round % 50 == 0 => 4_194_000 + next(&mut state) % 100_000,
                    _ => next(&mut state) % 3000,
                };
                let mark = round as u8;
                match next(&mut state) % 5 {
                    0 | 1 => {
                        let block = libc::malloc(size).cast::<u8>();
                        assert_eq!(block as usize % 16, 0);
                        assert!(libc::malloc_usable_size(block.cast()) >= size);
                        block.write_bytes(mark, size);
                        blocks.push((block, size, mark));
                    }
                    2 => {
                        let align = 16usize << (next(&mut state) % 10);
                        let mut block: *mut c_void = std::ptr::null_mut();
                        assert_eq!(libc::posix_memalign(&raw mut block, align, size), 0);
                        assert_eq!(block as usize % align, 0);
                        block.cast::<u8>().write_bytes(mark, size);
                        blocks.push((block.cast(), size, mark));
                    }
                    3 if !blocks.is_empty() => {
                        let (block, before, mark) = blocks.swap_remove(next(&mut state) % blocks.len());
                        let size = size.max(1);
                        let moved = libc::realloc(block.cast(), size).cast::<u8>();
                        assert!((0..before.min(size)).all(|i| *moved.add(i) == mark));
                        moved.write_bytes(mark, size);
                        blocks.push((moved, size, mark));
                    }
                    _ if !blocks.is_empty() => {
                        let (block, size, mark) = blocks.swap_remove(next(&mut state) % blocks.len());
                        assert!((0..size).all(|i| *block.add(i) == mark));
                        libc::free(block.cast());
                        let zeroed = libc::calloc(size.max(1), 1).cast::<u8>();
                        assert!((0..size).all(|i| *zeroed.add(i) == 0), "calloc gives zeroes");
                        libc::free(zeroed.cast());
                    }
                    _ => {}
                }
                if blocks.len() > 60 {
                    let (block, ..) = blocks.swap_remove(0);
                    libc::free(block.cast());
                }
            }
            for (block, ..) in blocks {
                libc::free(block.cast());
            }
        }
    };
    let threads: Vec<_> = (1..=4u64)
        .map(|seed| thread::spawn(move || work(seed * 0x9e37_79b9)))
        .collect();
    for thread in threads {
        thread.join().expect("no block was wrong");
    }
}

#[test]
fn requests_that_cannot_be_served_get_null_and_do_not_end_the_process() {
    // SAFETY: C contracts; nothing is given, so nothing is given back.
    unsafe {
        assert!(libc::malloc(usize::MAX - 64).is_null());
        assert!(libc::calloc(usize::MAX / 2, 4).is_null());
        assert!(libc::memalign(3 << 40, 8).is_null());
        let mut block = std::ptr::null_mut();
        assert_eq!(libc::posix_memalign(&raw mut block, 24, 8), libc::EINVAL);
        libc::free(std::ptr::null_mut());
    }
}

#[test]
fn a_program_can_be_started_from_there() {
    let output = Command::new("/bin/echo").arg("hello").output().expect("started");
    assert_eq!(output.stdout, b"hello\n");
}

/// Runs the ignored test `name` of this program in a process of its own, with `limit` bytes of locked memory (soft:hard) and
/// without the right to exceed them. No more than 8 MB, which any shell has.
fn alone(name: &str, limit: &str) -> Output {
    let program = std::env::current_exe().expect("this program");
    Command::new("setpriv")
        .args(["--inh-caps=-ipc_lock", "--bounding-set=-ipc_lock", "prlimit"])
        .arg(format!("--memlock={limit}"))
        .arg(program)
        .args(["--exact", name, "--ignored", "--nocapture", "--test-threads=1"])
        .output()
        .expect("util-linux")
}

#[test]
#[ignore = "run by others, under limits"]
fn child_that_fills_its_heap() {
    if settle(Ordinary::Refuse).is_err() {
        println!("refused before a secret was there");
        return;
    }
    println!("settled");
    let blocks: Vec<Vec<u8>> = (0..64).map(|_| vec![1; 1 << 20]).collect();
    println!("filled {}", blocks.len());
}

#[test]
#[ignore = "run by others, under limits"]
fn child_that_is_allowed_ordinary_memory() {
    settle(Ordinary::Allow).expect("allowed");
    let blocks: Vec<Vec<u8>> = (0..64).map(|_| vec![1; 1 << 20]).collect();
    println!("filled {} {:?}", blocks.len(), memory());
}

#[test]
#[ignore = "run by others, under limits"]
fn child_that_forks() {
    // SAFETY: the child does nothing but touch the heap, which is what is tested.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let block = Box::new(1u8);
        std::process::exit(i32::from(*block));
    }
    let mut status = 0;
    // SAFETY: waits for the child just made.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    println!("signal {:?}", std::process::ExitStatus::from_raw(status).signal());
}

#[test]
fn a_full_limit_ends_the_process_with_one_line_that_says_what_to_do() {
    let output = alone("child_that_fills_its_heap", "8000000:8000000");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(71), "{output:?}");
    assert_eq!(said.matches("rempart: ended:").count(), 1, "{said}");
    assert!(said.contains("raise LimitMEMLOCK= of its unit"), "{said}");
}

#[test]
fn a_limit_too_small_for_the_first_region_is_told_before_a_secret_is_there() {
    let output = alone("child_that_fills_its_heap", "65536:65536");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("refused before a secret was there") && !said.contains("filled"),
        "{output:?}"
    );
}

#[test]
fn ordinary_memory_is_taken_only_where_it_is_allowed_and_never_in_silence() {
    let output = alone("child_that_is_allowed_ordinary_memory", "8000000:8000000");
    let (said, printed) = (
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout),
    );
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(
        said.matches("memory-ordinary: runs on in ordinary memory").count(),
        1,
        "{said}"
    );
    assert!(printed.contains("filled 64 Ordinary("), "{printed}");
}

#[test]
fn the_soft_limit_is_raised_to_the_hard_one_where_it_is_too_small() {
    let output = alone("child_that_fills_its_heap", "65536:8000000");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.contains("settled"), "{output:?}");
}

#[test]
fn a_limit_on_addresses_leaves_a_smaller_heap() {
    let output = Command::new("prlimit")
        .args(["--as=300000000", "--"])
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", "what_is_given_back_is_wiped", "--test-threads=1"])
        .output()
        .expect("util-linux");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_forked_child_has_no_heap_and_so_no_copy_of_it() {
    let output = alone("child_that_forks", "8000000:8000000");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.contains("signal Some(11)"), "{output:?}");
}
