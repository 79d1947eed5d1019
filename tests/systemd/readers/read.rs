use std::io::Write;
unsafe extern "C" {
    fn mmap(at: *mut u8, length: usize, protection: i32, flags: i32, file: i32, offset: i64) -> *const u8;
}
fn main() {
    let variable = |name| std::env::var(name).unwrap();
    let value = match std::env::args().nth(1).unwrap().as_str() {
        "fd" => {
            let file: i32 = variable("K_FD").parse().unwrap();
            let length = std::fs::metadata(format!("/proc/self/fd/{file}")).unwrap().len() as usize;
            unsafe { std::slice::from_raw_parts(mmap(std::ptr::null_mut(), length, 1, 1, file, 0), length) }.to_vec()
        }
        "file" => std::fs::read(variable("REMPART_FILE_K")).unwrap(),
        "credential" => std::fs::read(variable("CREDENTIALS_DIRECTORY") + "/K").unwrap(),
        _ => variable("PW").into_bytes(),
    };
    std::io::stdout().write_all(&value).unwrap();
}
