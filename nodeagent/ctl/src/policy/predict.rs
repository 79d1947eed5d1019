//! `rempart policy predict`: reference values from images that never booted.

use std::process::ExitCode;

use rempart_attest::{
    limits,
    policy::{
        Policy,
        predict::{Options, SecureBoot, predict as predict_one},
    },
};

use super::{
    arguments::{Predict, SecureBootSwitch},
    file,
};
use crate::failure::Failure;

/// One policy over all images, on standard output.
pub fn predict(told: &Predict) -> Result<ExitCode, Failure> {
    let mut images = Vec::new();
    for path in &told.images {
        let bytes = file::read(path, limits::IMAGE)?;
        let mut policy = predict_one(&bytes, &options(told)).map_err(|error| file::fail(path, error))?;
        for image in &mut policy.images {
            if told.images.len() > 1 {
                image.name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            }
            image.not_before = told.not_before;
            image.not_after = told.not_after;
        }
        images.append(&mut policy.images);
    }
    let policy = Policy {
        name: told.head.name.clone(),
        counter: told.head.counter,
        require_guard: told.head.require_guard,
        ..Policy::of(images)
    };
    super::print(&policy, told.json)
}

fn options(told: &Predict) -> Options {
    Options {
        name: told.head.name.clone(),
        counter: told.head.counter,
        bank: told.bank,
        secure_boot: match told.secure_boot {
            SecureBootSwitch::Off => SecureBoot::Off,
        },
        phases: told.head.phases.clone(),
        accept: told.head.accept.clone(),
        require_guard: told.head.require_guard,
    }
}
