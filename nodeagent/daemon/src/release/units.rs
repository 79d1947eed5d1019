//! The opted-in units: which there were at the agent's start, what their files were, and which start was served.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Read,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rempart_api::agent::RUN_UNIT;
use rempart_core::{
    snapshot::{Definition, Snapshot, Verdict},
    unitfile::{OptIn, SECTION, Source, read_opt_in},
};
use zbus::Connection;

use super::{Refusal, caller::Caller};
use crate::{
    clock, kept,
    systemd::manager::{self, Exec, ManagerProxy, Properties},
};

/// Longest unit file, in bytes; systemd itself takes 1 MiB a line.
const MAX_FILE: u64 = 1024 * 1024;

/// What systemd has loaded decides what a service runs, and its files may say otherwise by now: root can change a
/// file, reload, and put the file back. So these settings are part of the definition, beside the files.
const LOADED: [&str; 27] = [
    "BindPaths",
    "BindReadOnlyPaths",
    "DynamicUser",
    "Environment",
    "EnvironmentFiles",
    "ExtensionDirectories",
    "ExtensionImages",
    "Group",
    "ImportCredential",
    "InaccessiblePaths",
    "LoadCredential",
    "LoadCredentialEncrypted",
    "MountAPIVFS",
    "MountImages",
    "PAMName",
    "PassEnvironment",
    "RootDirectory",
    "RootEphemeral",
    "RootImage",
    "SetCredential",
    "SetCredentialEncrypted",
    "SupplementaryGroups",
    "TemporaryFileSystem",
    "Type",
    "UnsetEnvironment",
    "User",
    "WorkingDirectory",
];

/// Where a unit is defined, and what systemd made of it.
#[derive(Debug, Clone, Default)]
pub struct Files {
    /// The unit file.
    fragment: String,
    /// The drop-ins, in systemd's order.
    drop_ins: Vec<String>,
    /// Commands and [`LOADED`] settings.
    loaded: Vec<(String, String)>,
}

impl Files {
    /// As systemd tells it.
    pub fn of(unit: &Properties, service: &Properties) -> zbus::Result<Self> {
        let commands = |name: &str| -> zbus::Result<(String, String)> {
            let commands: Vec<Exec> = manager::property(service, name)?;
            let commands: Vec<_> = commands.iter().map(|exec| (&exec.0, &exec.1, exec.2)).collect();
            Ok((format!("{name}="), format!("{commands:?}")))
        };
        // Which settings there are depends on systemd's version only.
        let settings = LOADED.into_iter().filter_map(|name| {
            service
                .get(name)
                .map(|value| (format!("{name}="), format!("{value:?}")))
        });
        // Those besides run with the unit's credentials, or when it is to be told of new secrets.
        let beside = ["ExecCondition", "ExecStartPre", "ExecStartPost", "ExecReload"];
        let beside = beside
            .into_iter()
            .filter(|name| service.contains_key(*name))
            .map(commands);
        let beside = beside.collect::<zbus::Result<Vec<_>>>()?;
        Ok(Self {
            fragment: manager::property(unit, "FragmentPath")?,
            drop_ins: manager::property(unit, "DropInPaths")?,
            loaded: std::iter::once(commands("ExecStart")?)
                .chain(beside)
                .chain(settings)
                .collect(),
        })
    }
}

/// The units.
#[derive(Default)]
pub struct Units {
    snapshot: Snapshot,
    /// For each unit its last start, and the commands of it that were served.
    served: Mutex<BTreeMap<String, (String, BTreeSet<usize>)>>,
    /// Units of which the guard remembers another definition, with its words.
    withdrawn: Mutex<BTreeMap<String, String>>,
    /// Roles under which a unit of `rempart run` gets secrets although it was not there.
    run_roles: BTreeSet<String>,
}

impl Units {
    /// Every opted-in unit that `folders` name and systemd loads; what the file `kept` holds of this boot comes first.
    pub async fn record(bus: &Connection, folders: &[PathBuf], kept: &Path) -> zbus::Result<Self> {
        let boot_id = clock::boot_word();
        if let Some(snapshot) = keeping(kept, &boot_id) {
            tracing::info!("{} opted-in units recorded earlier in this boot", snapshot.len());
            return Ok(Self {
                snapshot,
                ..Self::default()
            });
        }
        let manager = ManagerProxy::new(bus).await?;
        let mut names = BTreeSet::new();
        for name in folders.iter().flat_map(|folder| candidates(folder)) {
            // Of templates and prefixes those that systemd has loaded by now: boot loads all that are wanted.
            match pattern(&name) {
                Some(pattern) => {
                    let listed = manager.list_units_by_patterns(&[], &[&pattern]).await?;
                    names.extend(listed.into_iter().map(|unit| unit.0));
                    names.extend(beginning_like(&name, folders));
                }
                None => drop(names.insert(name)),
            }
        }
        // Their names stand for another command each time, so there is nothing to hold them to.
        names.retain(|name| !name.starts_with(RUN_UNIT));
        let mut units = Self::default();
        let mut whole = !boot_id.is_empty();
        for name in names {
            match recorded(bus, &manager, &name).await {
                Ok((id, definition)) => units.snapshot.record(&id, definition),
                Err(why) => {
                    whole = false;
                    tracing::warn!("{name} names [{SECTION}] and cannot be recorded, so it gets nothing: {why}");
                }
            }
        }
        if whole {
            keep(kept, &boot_id, &units.snapshot);
        }
        tracing::info!("{} opted-in units recorded", units.snapshot.len());
        Ok(units)
    }

    /// The same with the owner's word (`[run] roles`) for commands that no unit file defines.
    #[must_use]
    pub fn allowing(mut self, run_roles: BTreeSet<String>) -> Self {
        self.run_roles = run_roles;
        self
    }

    /// What the caller's unit opted into, if its files are what they were.
    pub fn judge(&self, caller: &Caller) -> Result<OptIn, Refusal> {
        let unit = || caller.unit.clone();
        let files = read(&caller.unit, &caller.files)?;
        let sources: Vec<Source<'_>> = files.iter().map(|(path, text)| Source { path, text }).collect();
        let opt_in = read_opt_in(&sources)
            .map_err(|error| Refusal::UnitMalformed {
                unit: unit(),
                why: error.to_string(),
            })?
            .ok_or_else(|| Refusal::UnitNotOptedIn { unit: unit() })?;
        if caller.unit.starts_with(RUN_UNIT) {
            return self.judge_run(caller, opt_in);
        }
        self.compare(&caller.unit, &definition(&files, &caller.files))?;
        Ok(opt_in)
    }

    /// Whether `name`, as systemd would start it now, is what was recorded. The error is systemd's.
    pub async fn check(&self, bus: &Connection, name: &str) -> zbus::Result<Result<(), Refusal>> {
        let manager = ManagerProxy::new(bus).await?;
        let (unit, service) = manager::properties(bus, manager.load_unit(name).await?).await?;
        let (id, place): (String, Files) = (manager::property(&unit, "Id")?, Files::of(&unit, &service)?);
        Ok(read(&id, &place).and_then(|files| self.compare(&id, &definition(&files, &place))))
    }

    fn compare(&self, unit: &str, now: &Definition) -> Result<(), Refusal> {
        let named = || unit.to_owned();
        let withdrawn = self.withdrawn.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(what) = withdrawn.get(unit).cloned() {
            return Err(Refusal::UnitChanged { unit: named(), what });
        }
        match self.snapshot.judge(unit, now) {
            Verdict::Unchanged => Ok(()),
            Verdict::Changed(what) => Err(Refusal::UnitChanged { unit: named(), what }),
            Verdict::Unknown => Err(Refusal::UnitNew { unit: named() }),
        }
    }

    /// Roles of [`Self::allowing`].
    pub fn run_roles(&self) -> &BTreeSet<String> {
        &self.run_roles
    }

    /// A unit that root made in this boot, with a command of root's choice: only the owner can say that root may have what the role gets.
    fn judge_run(&self, caller: &Caller, opt_in: OptIn) -> Result<OptIn, Refusal> {
        match &opt_in.role {
            Some(role) if self.run_roles.contains(role) => Ok(opt_in),
            role => Err(Refusal::RunNotAllowed {
                unit: caller.unit.clone(),
                role: role.clone().unwrap_or_default(),
            }),
        }
    }

    /// What defines each unit, as one text.
    pub fn definitions(&self) -> Vec<(String, String)> {
        self.snapshot.texts()
    }

    /// Nothing for `unit`: it is not what it was when this boot was armed.
    pub fn withdraw(&self, unit: &str, why: &str) {
        let mut withdrawn = self.withdrawn.lock().unwrap_or_else(PoisonError::into_inner);
        if withdrawn.insert(unit.to_owned(), why.to_owned()).is_none() {
            tracing::error!("{unit} gets nothing: {why}");
        }
    }

    /// Claims the one release of this start; a oneshot with several commands has one for each.
    pub fn claim(&self, caller: &Caller) -> Result<(), Refusal> {
        let mut served = self.lock();
        let (invocation, commands) = served.entry(caller.unit.clone()).or_default();
        if *invocation != caller.invocation {
            *invocation = caller.invocation.clone();
            commands.clear();
        }
        if commands.insert(caller.command) {
            return Ok(());
        }
        Err(Refusal::UnitServed {
            unit: caller.unit.clone(),
        })
    }

    /// Gives the claim back: nothing was released.
    pub fn unclaim(&self, caller: &Caller) {
        if let Some((invocation, commands)) = self.lock().get_mut(&caller.unit)
            && *invocation == caller.invocation
        {
            commands.remove(&caller.command);
        }
    }

    /// Units served since the agent's start.
    pub fn served(&self) -> Vec<String> {
        let served = self.lock();
        let served = served.iter().filter(|(_, (_, commands))| !commands.is_empty());
        served.map(|(unit, _)| unit.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, (String, BTreeSet<usize>)>> {
        // Single map operations; a panic leaves it whole.
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The unit's own name (`name` may be an alias) and its definition.
async fn recorded(bus: &Connection, manager: &ManagerProxy<'_>, name: &str) -> Result<(String, Definition), String> {
    let load = async {
        let (unit, service) = manager::properties(bus, manager.load_unit(name).await?).await?;
        Ok::<_, zbus::Error>((manager::property(&unit, "Id")?, Files::of(&unit, &service)?))
    };
    let (id, place): (String, Files) = load.await.map_err(|error| error.to_string())?;
    let files = read(&id, &place).map_err(|error| error.to_string())?;
    Ok((id, definition(&files, &place)))
}

fn definition(files: &[(String, String)], place: &Files) -> Definition {
    let parts = files.iter().chain(&place.loaded);
    Definition::of(parts.map(|(name, content)| (name.as_str(), content.as_bytes())))
}

/// What the units were at the agent's first start in this boot: an agent that is started again must not take what changed meanwhile for what
/// was there. A file that cannot be read is no reason to accept what is there now without a word.
fn keeping(kept: &Path, boot_id: &str) -> Option<Snapshot> {
    kept::of_boot(kept, boot_id, "the units are recorded anew")
}

fn keep(path: &Path, boot_id: &str, units: &Snapshot) {
    kept::keep(path, boot_id, units, "a restarted agent records the units anew");
}

/// The pattern of the units that a template (`a@.service`) or prefix (`a-.service`) stands for; `None` for others.
fn pattern(name: &str) -> Option<String> {
    let stem = name.strip_suffix(".service")?;
    match stem.strip_suffix('@') {
        Some(base) if base.ends_with('-') => Some(format!("{base}*@*.service")),
        Some(base) => Some(format!("{base}@*.service")),
        None if stem.ends_with('-') && !stem.contains('@') => Some(format!("{stem}*.service")),
        None => None,
    }
}

/// Unit files whose names begin with the prefix `name`, loaded or not.
fn beginning_like(name: &str, folders: &[PathBuf]) -> Vec<String> {
    let Some(prefix) = name.strip_suffix(".service").filter(|stem| stem.ends_with('-')) else {
        return Vec::new();
    };
    let entries = folders
        .iter()
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flatten()
        .flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|file| file.starts_with(prefix) && file.ends_with(".service"))
        .filter(|file| file != name && !file.contains("@.") && !file.ends_with("-.service"))
        .collect()
}

/// The unit's files with their texts, the fragment first.
fn read(unit: &str, place: &Files) -> Result<Vec<(String, String)>, Refusal> {
    let paths = std::iter::once(&place.fragment)
        .filter(|path| !path.is_empty())
        .chain(&place.drop_ins);
    paths
        .map(|path| {
            let text = read_text(Path::new(path)).map_err(|error| Refusal::UnitUnreadable {
                unit: unit.to_owned(),
                path: path.to_owned(),
                why: error.to_string(),
            })?;
            Ok((path.to_owned(), text))
        })
        .collect()
}

fn read_text(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(std::io::Error::other(format!("longer than {MAX_FILE} bytes")));
    }
    Ok(text)
}

/// Names of services whose fragment or drop-ins in `folder` mention the section. Which of them really opted in is
/// judged when they ask.
fn candidates(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut names = Vec::new();
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let mentions = |path: &Path| read_text(path).is_ok_and(|text| text.contains(SECTION));
        if let Some(unit) = name.strip_suffix(".d").filter(|unit| unit.ends_with(".service")) {
            let drop_ins = fs::read_dir(entry.path()).into_iter().flatten().flatten();
            if drop_ins.map(|drop_in| drop_in.path()).any(|path| mentions(&path)) {
                names.push(unit.to_owned());
            }
        } else if name.ends_with(".service") && mentions(&entry.path()) {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(folder: &Path, invocation: &str) -> Caller {
        Caller {
            unit: "web.service".into(),
            invocation: invocation.into(),
            command: 0,
            files: Files {
                fragment: folder.join("web.service").display().to_string(),
                drop_ins: Vec::new(),
                loaded: vec![("ExecStart=".into(), "/usr/bin/web".into())],
            },
        }
    }

    fn recorded(text: &str) -> (tempfile::TempDir, Units) {
        let folder = tempfile::tempdir().expect("temporary folder");
        std::fs::write(folder.path().join("web.service"), text).expect("write");
        let mut units = Units::default();
        let place = caller(folder.path(), "").files;
        let files = read("web.service", &place).expect("readable");
        units.snapshot.record("web.service", definition(&files, &place));
        (folder, units)
    }

    #[test]
    fn a_command_that_systemd_loaded_from_a_file_since_put_back_gets_nothing() {
        let (folder, units) = recorded("[X-Rempart]\nWrap=yes\n");
        let mut asks = caller(folder.path(), "1");
        asks.files.loaded[0].1 = "/evil".into();
        let refused = units.judge(&asks).expect_err("changed").to_string();
        assert!(refused.contains("ExecStart= was changed"), "{refused}");
    }

    #[test]
    fn each_command_of_a_oneshot_is_served_once() {
        let (folder, units) = recorded("[X-Rempart]\nWrap=yes\n");
        let mut asks = caller(folder.path(), "1");
        units.claim(&asks).expect("first");
        asks.command = 1;
        units.claim(&asks).expect("second");
        assert!(matches!(units.claim(&asks), Err(Refusal::UnitServed { .. })));
        assert_eq!(units.served(), ["web.service"]);
    }

    #[test]
    fn a_restarted_agent_keeps_the_first_record_of_the_boot_and_only_of_this_one() {
        let (folder, units) = recorded("[X-Rempart]\nWrap=yes\n");
        let path = folder.path().join("units.json");
        let units = units.snapshot;
        keep(&path, "1", &units);
        assert_eq!(keeping(&path, "1"), Some(units));
        assert_eq!(keeping(&path, "2"), None);
        std::fs::write(&path, "{").expect("write");
        assert_eq!(keeping(&path, "1"), None);
    }

    #[test]
    fn templates_and_prefixes_stand_for_other_units() {
        assert_eq!(pattern("a.service"), None);
        assert_eq!(pattern("a@i.service"), None);
        assert_eq!(pattern("a@.service").as_deref(), Some("a@*.service"));
        assert_eq!(pattern("a-.service").as_deref(), Some("a-*.service"));
        assert_eq!(pattern("a-@.service").as_deref(), Some("a-*@*.service"));
        let folder = tempfile::tempdir().expect("temporary folder");
        for name in ["a-x.service", "a-y@.service", "b.service"] {
            std::fs::write(folder.path().join(name), "").expect("write");
        }
        let folders = [folder.path().to_owned()];
        assert_eq!(beginning_like("a-.service", &folders), ["a-x.service"]);
        assert!(beginning_like("b.service", &folders).is_empty());
    }

    #[test]
    fn a_unit_that_changed_or_never_opted_in_gets_nothing() {
        let (folder, units) = recorded("[X-Rempart]\nWrap=yes\n");
        let asks = caller(folder.path(), "1");
        assert!(units.judge(&asks).is_ok());
        std::fs::write(
            &asks.files.fragment,
            "[X-Rempart]\nWrap=yes\n[Service]\nExecStart=/evil\n",
        )
        .expect("write");
        assert!(matches!(units.judge(&asks), Err(Refusal::UnitChanged { .. })));
        assert!(matches!(Units::default().judge(&asks), Err(Refusal::UnitNew { .. })));
        std::fs::write(&asks.files.fragment, "[Service]\n").expect("write");
        assert!(matches!(units.judge(&asks), Err(Refusal::UnitNotOptedIn { .. })));
        std::fs::write(&asks.files.fragment, "[X-Rempart]\nWarp=yes\n").expect("write");
        assert!(matches!(units.judge(&asks), Err(Refusal::UnitMalformed { .. })));
        std::fs::remove_file(&asks.files.fragment).expect("remove");
        assert!(matches!(units.judge(&asks), Err(Refusal::UnitUnreadable { .. })));
    }

    #[test]
    fn a_command_of_run_gets_secrets_of_the_roles_that_the_owner_named_and_no_other_unit_does() {
        let (folder, units) = recorded("[X-Rempart]\nWrap=yes\nRole=ops\n");
        let units = units.allowing(BTreeSet::from(["ops".to_owned()]));
        let mut asks = caller(folder.path(), "1");
        asks.unit = "rempart-run-ops-0.service".into();
        assert_eq!(units.judge(&asks).expect("named").role.as_deref(), Some("ops"));
        assert!(matches!(
            Units::default().judge(&asks),
            Err(Refusal::RunNotAllowed { .. })
        ));
        for other in ["Role=web\n", ""] {
            std::fs::write(&asks.files.fragment, format!("[X-Rempart]\nWrap=yes\n{other}")).expect("write");
            let refused = units.judge(&asks).expect_err("another role").to_string();
            assert!(refused.contains("[run] roles"), "{refused}");
        }
        std::fs::write(&asks.files.fragment, "[X-Rempart]\nWrap=yes\nRole=ops\n").expect("write");
        asks.unit = "new.service".into();
        assert!(
            matches!(units.judge(&asks), Err(Refusal::UnitNew { .. })),
            "only what run makes"
        );
    }

    #[test]
    fn one_start_is_served_once_and_a_failed_release_does_not_count() {
        let (folder, units) = recorded("[X-Rempart]\nWrap=yes\n");
        let first = caller(folder.path(), "1");
        units.claim(&first).expect("first");
        assert!(matches!(units.claim(&first), Err(Refusal::UnitServed { .. })));
        units.unclaim(&first);
        units.claim(&first).expect("after a failure");
        units.claim(&caller(folder.path(), "2")).expect("next start");
    }

    #[test]
    fn fragments_and_drop_ins_that_mention_the_section_are_found() {
        let (folder, _) = recorded("[X-Rempart]\nWrap=yes\n");
        std::fs::create_dir(folder.path().join("db@.service.d")).expect("folder");
        std::fs::write(folder.path().join("db@.service.d/50-rempart.conf"), "[X-Rempart]\n").expect("write");
        std::fs::write(folder.path().join("other.service"), "[Service]\n").expect("write");
        let mut names = candidates(folder.path());
        names.sort();
        assert_eq!(names, ["db@.service", "web.service"]);
    }
}
