//! Programs that read a secret from stdin, keep copies of it, fork, and say so.

use std::path::Path;

use anyhow::Result;
use rempart_harness::scan::Needle;

use super::{Figure, Program, Running, Setting};

/// An interpreter.
pub struct Script {
    name: &'static str,
    files: &'static [&'static str],
    option: &'static str,
    /// Reads one line that is a secret, then one that is another; keeps copies; says `ready` and waits.
    keeps: &'static str,
    uncovered: &'static [&'static str],
    nothing: &'static [&'static str],
    /// What is measured, and the script: it says the figures in this order, one a line.
    works: &'static [(&'static str, &'static str)],
    work: &'static str,
}

const FIRST: &str = "correct horse battery staple";
const SECOND: &str = "hunter2 and another long word";

/// Python with the C library's malloc.
pub const PYTHON: Script = Script {
    name: "python",
    files: &["/usr/bin/python3"],
    option: "-c",
    keeps: "import sys, os, json, base64, hashlib, hmac, threading
first = sys.stdin.readline().strip(); second = sys.stdin.readline().strip()
copies = [first.encode(), json.loads(json.dumps({'password': first})), f'Bearer {first}', first + ':' + second]
copies.append(hmac.new(second.encode(), first.encode(), 'sha256').hexdigest()); small = [second[i:] + second[:i] for i in range(500)]
thread = threading.Thread(target=lambda: copies.append('in a thread ' + second)); thread.start(); thread.join()
if not os.fork(): copies.append('child of ' + second); print('ready', flush=True)
threading.Event().wait()",
    uncovered: &[],
    nothing: &["-c", "pass"],
    works: &[("work on objects", "ms"), ("fork with a heap of 32 MiB", "ms")],
    work: "import json, os, time
start = time.perf_counter()
for i in range(60): json.loads(json.dumps([{str(k): [k, str(k) * 3] for k in range(400)}]))
print((time.perf_counter() - start) * 1000)
held = [bytes([i & 255]) * 1000 for i in range(32 << 10)]
times = []
for i in range(5):
    start = time.perf_counter(); pid = os.fork()
    if not pid: os._exit(0)
    times.append(time.perf_counter() - start); os.waitpid(pid, 0)
print(sorted(times)[2] * 1000)",
};

/// bash: a process for each command.
pub const BASH: Script = Script {
    name: "bash",
    files: &["/bin/bash"],
    option: "-c",
    keeps: "read -r first; read -r second; header=\"Bearer $first\"; all=(\"$first\" \"$second\" \"${header^^}\"); \
            printf -v both '%s:%s' \"$first\" \"$second\"; declare -A map=([key]=\"$second\"); \
            ( inner=\"in a subshell: $both\"; echo ready; while :; do sleep 1; done )",
    uncovered: &[],
    nothing: &["-c", ":"],
    works: &[("work on strings", "ms"), ("a subshell", "ms"), ("an external command", "ms")],
    work: "ms() { local now=${EPOCHREALTIME/[.,]/}; echo $(( (now - start) / $1 ))e-3; }; begin() { start=${EPOCHREALTIME/[.,]/}; }
begin; for ((i = 0; i < 30000; i++)); do a=\"$i:$a\"; a=${a:0:200}; done; ms 1
begin; for ((i = 0; i < 200; i++)); do ( : ); done; ms 200
begin; for ((i = 0; i < 200; i++)); do /bin/true; done; ms 200",
};

/// node: Buffers are in the C heap, strings are not.
pub const NODE: Script = Script {
    name: "node",
    files: &["/usr/bin/node"],
    option: "-e",
    keeps: "const {openSync, readSync} = require('fs'); const line = () => { const all = Buffer.alloc(100); let n = 0; \
            while (readSync(0, all, n, 1) && all[n] != 10) n++; return all.subarray(0, n); };
const buffer = line(); const copy = Buffer.from(buffer); const string = line().toString(); const kept = ['' + string, {string}];
console.log('ready'); setInterval(() => [buffer, copy, kept], 1000);",
    uncovered: &["second"],
    nothing: &["-e", "0"],
    works: &[("work on Buffers", "ms"), ("work on objects", "ms")],
    work: "let start = process.hrtime.bigint(); const ms = () => console.log(Number(process.hrtime.bigint() - start) / 1e6);
for (let i = 0; i < 20000; i++) Buffer.concat([Buffer.alloc(5000, i), Buffer.alloc(100)]); ms();
start = process.hrtime.bigint(); for (let i = 0; i < 2000; i++) JSON.parse(JSON.stringify(Array.from({length: 100}, (_, k) => ({k, s: 's' + k})))); ms();",
};

impl Program for Script {
    fn name(&self) -> &'static str {
        self.name
    }

    fn files(&self) -> &'static [&'static str] {
        self.files
    }

    fn start(&self, file: &Path, setting: Setting<'_>) -> Result<Running> {
        let needles = vec![
            Needle::new("first", FIRST.as_bytes()),
            Needle::new("second", SECOND.as_bytes()),
        ];
        let mut running = Running::start(setting.command(file).args([self.option, self.keeps]), needles)?;
        running.say(&format!("{FIRST}\n{SECOND}\n"))?;
        while running.hear()? != "ready" {}
        Ok(running)
    }

    fn uncovered(&self) -> &'static [&'static str] {
        self.uncovered
    }

    fn nothing(&self) -> Option<&'static [&'static str]> {
        Some(self.nothing)
    }

    fn work(&self, file: &Path, setting: Setting<'_>) -> Result<Vec<Figure>> {
        let mut running = Running::start(setting.command(file).args([self.option, self.work]), Vec::new())?;
        let figure = |(what, unit): &(&'static str, &'static str)| {
            let value = running.hear()?.parse()?;
            Ok(Figure { what, unit, value })
        };
        self.works.iter().map(figure).collect()
    }
}
