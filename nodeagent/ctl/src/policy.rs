//! `rempart policy`: reference values for the Verifier.

use std::{fs::File, io::Read, path::Path, process::ExitCode};

use rempart_attest::{
    limits,
    policy::{
        Policy,
        predict::{Options, SecureBoot, predict as predict_one},
    },
};

use crate::{
    arguments::{Predict, SecureBootSwitch},
    failure::Failure,
};

/// `rempart policy predict`: one policy over all images, on standard output.
pub fn predict(told: &Predict) -> Result<ExitCode, Failure> {
    let mut whole: Option<Policy> = None;
    for path in &told.images {
        let fail = |why: String| Failure::Input {
            path: path.display().to_string(),
            why,
        };
        let image = read(path).map_err(|error| fail(error.to_string()))?;
        let mut policy = predict_one(&image, &options(told)).map_err(|error| fail(error.to_string()))?;
        if told.images.len() > 1 {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            policy.images.iter_mut().for_each(|image| image.name.clone_from(&name));
        }
        match &mut whole {
            Some(whole) => whole.images.append(&mut policy.images),
            None => whole = Some(policy),
        }
    }
    // Clap demands at least one image.
    print!("{}", whole.map(|policy| policy.to_toml()).unwrap_or_default());
    Ok(ExitCode::SUCCESS)
}

fn options(told: &Predict) -> Options {
    Options {
        name: told.name.clone(),
        counter: told.counter,
        bank: rempart_attest::Bank::Sha256,
        secure_boot: match told.secure_boot {
            SecureBootSwitch::Off => SecureBoot::Off,
        },
        accept: told.accept.clone(),
        require_guard: told.require_guard,
        ..Options::default()
    }
}

/// At most one byte more than is allowed: predict says the rest.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut image = Vec::new();
    File::open(path)?
        .take(limits::IMAGE as u64 + 1)
        .read_to_end(&mut image)?;
    Ok(image)
}
