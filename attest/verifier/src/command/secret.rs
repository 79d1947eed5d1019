//! `secret set|list|rm`. The value comes on standard input and is never printed.

use std::io::Read;

use rempart_attest::limits;
use serde_json::json;
use zeroize::Zeroizing;

use super::{act, operator, print_json, with_registry};
use crate::cli;
use crate::config::Config;
use crate::error::Error;
use crate::keys;
use crate::name;
use crate::registry::RegistryError;
use crate::store::StoreKey;

pub fn run(what: &cli::Secret, config: &Config) -> Result<(), Error> {
    let operator = operator();
    with_registry(config, |registry| async move {
        let act = act(&operator, config);
        match what {
            cli::Secret::Set { name, role } => {
                name::secret(name).map_err(RegistryError::from)?;
                let key = StoreKey::new(&*keys::secret32(&config.store_key_file)?)?;
                let value = read_value()?;
                let mut sealed = Vec::new();
                for role in role {
                    name::role(role).map_err(RegistryError::from)?;
                    sealed.push((role.clone(), key.seal(name, role, &value)?));
                }
                registry.set_secret(name, &sealed, &act).await?;
                println!("secret {name} ({} bytes) stored for {}", value.len(), role.join(", "));
            }
            cli::Secret::List { json } => {
                for (name, role) in registry.secrets().await? {
                    if *json {
                        print_json(&json!({ "name": name, "role": role }));
                    } else {
                        println!("{name}  role: {role}");
                    }
                }
            }
            cli::Secret::Rm { name } => {
                registry.remove_secret(name, &act).await?;
                println!("secret {name} removed");
            }
        }
        Ok(())
    })
}

/// Exactly the bytes given: no line end is cut off, because a value may be binary.
fn read_value() -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut value = Zeroizing::new(Vec::with_capacity(limits::SECRET_VALUE + 1));
    std::io::stdin()
        .take(limits::SECRET_VALUE as u64 + 1)
        .read_to_end(&mut value)
        .map_err(|source| Error::Read {
            path: "/dev/stdin".into(),
            source,
        })?;
    match value.len() {
        0 => Err(Error::Usage("the value on standard input is empty".into())),
        len if len > limits::SECRET_VALUE => Err(Error::Usage(format!(
            "the value is larger than {} KiB",
            limits::SECRET_VALUE / 1024
        ))),
        _ => Ok(value),
    }
}
