//! Boots the guest image, runs one command in it, prints what it said: for trying things by hand.
//!
//! `rempart-harness-vm [--deb FILE]… [--overlay DIR]… [--cmdline TEXT] [--add SRC:DEST]… [--forward GUEST:HOST]… [--smbios TEXT]…
//! [--direct] [--no-tpm] [--early] [--memory MIB] [--timeout S] -- COMMAND…`

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rempart_harness::{ImageRecipe, Tpm, VmBuilder};

#[derive(Default)]
struct Options {
    recipe: ImageRecipe,
    adds: Vec<(PathBuf, String)>,
    forwards: Vec<(u16, u16)>,
    smbios: Vec<String>,
    direct: bool,
    no_tpm: bool,
    early: bool,
    memory: u32,
    limit: Duration,
    command: Vec<String>,
}

fn main() -> ExitCode {
    match options().and_then(|options| boot_and_run(&options)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("rempart-harness-vm: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Options> {
    let mut options = Options {
        memory: 1024,
        limit: Duration::from_secs(120),
        ..Options::default()
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} wants a value"));
        match arg.as_str() {
            "--deb" => options.recipe.debs.push(value()?.into()),
            "--overlay" => options.recipe.overlays.push(value()?.into()),
            "--cmdline" => options.recipe.command_line = value()?,
            "--add" => {
                let text = value()?;
                let (source, dest) = text.split_once(':').context("--add SRC:DEST")?;
                options.adds.push((source.into(), dest.to_owned()));
            }
            "--forward" => {
                let text = value()?;
                let (guest, host) = text.split_once(':').context("--forward GUEST:HOST")?;
                options.forwards.push((guest.parse()?, host.parse()?));
            }
            "--smbios" => options.smbios.push(value()?),
            "--memory" => options.memory = value()?.parse()?,
            "--timeout" => options.limit = Duration::from_secs(value()?.parse()?),
            "--direct" => options.direct = true,
            "--no-tpm" => options.no_tpm = true,
            "--early" => options.early = true,
            "--" => options.command = args.by_ref().collect(),
            _ => bail!("unknown argument {arg}"),
        }
    }
    if options.command.is_empty() {
        bail!("no command: … -- COMMAND");
    }
    Ok(options)
}

fn boot_and_run(options: &Options) -> Result<u8> {
    let image = options.recipe.build()?;
    let tpm = if options.no_tpm {
        None
    } else {
        Some(Tpm::manufacture()?)
    };
    let mut builder = VmBuilder::new(&image).memory_mib(options.memory);
    if let Some(tpm) = &tpm {
        builder = builder.tpm(tpm);
    }
    if options.direct {
        builder = builder.direct("");
    }
    for &(guest, host) in &options.forwards {
        builder = builder.forward(guest, host);
    }
    for text in &options.smbios {
        builder = builder.smbios(text);
    }
    let mut vm = builder.start()?;
    vm.wait_ready(Duration::from_secs(240))?;
    eprintln!("[{:5.1} s] test agent is up", vm.age().as_secs_f32());
    if !options.early {
        let state = vm.wait_booted(Duration::from_secs(240))?;
        eprintln!("[{:5.1} s] systemd: {state}", vm.age().as_secs_f32());
    }
    for (source, dest) in &options.adds {
        let bytes = std::fs::read(source).with_context(|| source.display().to_string())?;
        vm.push(&bytes, dest, "755")?;
    }
    let command: Vec<&str> = options.command.iter().map(String::as_str).collect();
    let output = vm.exec_for(&command, b"", options.limit)?;
    print!("{}", output.stdout);
    eprint!("{}", output.stderr);
    Ok(u8::try_from(output.rc).unwrap_or(1))
}
