//! Single system calls, each as its caller sees it. To add one: a function here and its row in `LINES`.

use std::{
    fs::{self, File},
    hint::black_box,
    io::{Read, Write, pipe},
    net::{TcpListener, TcpStream},
    os::unix::{fs::FileExt, net::UnixStream},
    process::Command,
    time::Instant,
};

use crate::{FOLDER, Result, at};

/// A call, repeated as often as is asked, with all that it needs opened before.
type Op = Box<dyn FnMut() -> std::io::Result<()>>;

/// Opens all that a call needs.
type Prepare = fn() -> std::io::Result<Op>;

/// Name and preparation of each.
pub const LINES: &[(&str, Prepare)] = &[
    ("open+close", || open(format!("{FOLDER}/file"))),
    ("open+close, 8 folders deep", || open(format!("{DEEP}/file"))),
    ("open+read+close in procfs", || {
        Ok(Box::new(|| {
            let mut buffer = [0; 512];
            File::open("/proc/self/stat")?.read(black_box(&mut buffer)).map(drop)
        }))
    }),
    ("stat", || stat(format!("{FOLDER}/file"))),
    ("stat, 8 folders deep", || stat(format!("{DEEP}/file"))),
    ("read 64 B, file", || read(64)),
    ("read 4 KiB, file", || read(4096)),
    ("write 64 B, file", || write(64)),
    ("write 4 KiB, file", || write(4096)),
    ("write+read 64 B, pipe", || through(pipe()?, 64)),
    ("write+read 4 KiB, pipe", || through(pipe()?, 4096)),
    ("write+read 64 B, Unix socket", || through(UnixStream::pair()?, 64)),
    ("write+read 4 KiB, Unix socket", || through(UnixStream::pair()?, 4096)),
    ("write+read 64 B, TCP", || through(tcp()?, 64)),
    ("write+read 4 KiB, TCP", || through(tcp()?, 4096)),
    ("connect+accept+close, TCP", || {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        Ok(Box::new(move || {
            let near = TcpStream::connect(address)?;
            let (far, _) = listener.accept()?;
            drop(near);
            drop(far);
            Ok(())
        }))
    }),
    ("fork+exec+wait", || {
        Ok(Box::new(|| Command::new("/usr/bin/true").status().map(drop)))
    }),
];

/// Eight folders below the root.
const DEEP: &str = "/run/bench/3/4/5/6/7/8";

fn open(path: String) -> std::io::Result<Op> {
    Ok(Box::new(move || File::open(&path).map(drop)))
}

fn stat(path: String) -> std::io::Result<Op> {
    Ok(Box::new(move || {
        black_box(fs::metadata(&path)?);
        Ok(())
    }))
}

fn read(size: usize) -> std::io::Result<Op> {
    let file = File::open(format!("{FOLDER}/file"))?;
    let mut buffer = vec![0; size];
    Ok(Box::new(move || file.read_exact_at(black_box(&mut buffer), 0)))
}

fn write(size: usize) -> std::io::Result<Op> {
    // The two subjects write to files of their own.
    let path = format!("{FOLDER}/written-{}", std::process::id());
    let file = File::options().create(true).truncate(true).write(true).open(path)?;
    let buffer = vec![7; size];
    Ok(Box::new(move || file.write_all_at(black_box(&buffer), 0)))
}

/// In at the second, out at the first.
fn through<R: Read + 'static, W: Write + 'static>((mut out, mut into): (R, W), size: usize) -> std::io::Result<Op> {
    let mut buffer = vec![7; size];
    Ok(Box::new(move || {
        into.write_all(black_box(&buffer))?;
        out.read_exact(&mut buffer)
    }))
}

fn tcp() -> std::io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    near.set_nodelay(true)?;
    Ok((listener.accept()?.0, near))
}

/// What all lines find; made once, before any of them is prepared.
pub fn prepare() -> Result<()> {
    fs::create_dir_all(DEEP).map_err(at(DEEP))?;
    for folder in [FOLDER, DEEP] {
        fs::write(format!("{folder}/file"), [7; 4096]).map_err(at(folder))?;
    }
    Ok(())
}

/// Runs line `index` `calls` times; nanoseconds of one.
pub fn measure(index: usize, calls: u32) -> Result<f64> {
    let (name, prepare) = LINES.get(index).ok_or("no such line")?;
    let mut op = prepare().map_err(at(name))?;
    // Once before, for what only the first call does.
    op().map_err(at(name))?;
    let start = Instant::now();
    for _ in 0..calls {
        op().map_err(at(name))?;
    }
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a short slice")]
    Ok(start.elapsed().as_nanos() as f64 / f64::from(calls))
}
