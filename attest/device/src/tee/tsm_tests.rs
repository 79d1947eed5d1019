//! Against a model of drivers/virt/coco/tsm.c in memory: the same attributes, counters and errors. No kernel with a TEE was used;
//! the real folder is only shown to be absent, or without driver.

use std::collections::BTreeMap;

use rempart_attest::Fixed;

use super::*;

/// An entry as the kernel keeps it.
#[derive(Default)]
struct Model {
    driver: Option<&'static str>,
    floor: Option<u64>,
    auxblob: Option<Vec<u8>>,
    entries: u32,
    made: u32,
    generation: u64,
    written: BTreeMap<String, Vec<u8>>,
    /// How many more times another program writes just before the report is read.
    intruder: u32,
    /// What reading outblob gives instead.
    fails: Option<io::Error>,
    size: usize,
}

impl Model {
    fn snp() -> Self {
        Self {
            driver: Some("sev_guest\n"),
            floor: Some(0),
            auxblob: Some(vec![0xce; 48]),
            size: 1184,
            ..Self::default()
        }
    }
}

impl Tree for Model {
    fn make(&mut self) -> io::Result<()> {
        if self.driver.is_none() {
            return Err(io::Error::from_raw_os_error(ENXIO));
        }
        self.entries += 1;
        self.made += 1;
        Ok(())
    }

    fn remove(&mut self) {
        self.entries -= 1;
    }

    fn read(&mut self, attribute: &str, max: usize) -> io::Result<Vec<u8>> {
        assert_eq!(self.entries, 1, "only inside of an entry");
        let absent = || io::Error::from(ErrorKind::NotFound);
        let mut bytes = match attribute {
            "provider" => self.driver.expect("made").as_bytes().to_vec(),
            "generation" => format!("{}\n", self.generation).into_bytes(),
            "privlevel_floor" => format!("{}\n", self.floor.ok_or_else(absent)?).into_bytes(),
            "auxblob" => self.auxblob.clone().ok_or_else(absent)?,
            "outblob" => {
                if let Some(error) = self.fails.take() {
                    return Err(error);
                }
                if self.intruder > 0 {
                    self.intruder -= 1;
                    self.write("inblob", &[0xee; 64])?;
                }
                let inblob = self.written.get("inblob").expect("written first").clone();
                [inblob, vec![0; self.size - 64]].concat()
            }
            other => panic!("no attribute {other}"),
        };
        bytes.truncate(max + 1);
        Ok(bytes)
    }

    fn write(&mut self, attribute: &str, bytes: &[u8]) -> io::Result<()> {
        if attribute == "privlevel" {
            let floor = self.floor.ok_or(ErrorKind::NotFound)?;
            let level: u64 = str::from_utf8(bytes).expect("text").parse().expect("number");
            if level < floor || level > 3 {
                return Err(ErrorKind::InvalidInput.into());
            }
        }
        self.generation += 1;
        self.written.insert(attribute.to_owned(), bytes.to_vec());
        Ok(())
    }
}

const ASKED: ReportRequest = ReportRequest {
    report_data: Fixed([7; 64]),
    vmpl: None,
};

fn report(model: Model, request: &ReportRequest) -> (Result<TeeEvidence, TeeError>, Model) {
    let mut source = ConfigfsTsm { tree: model };
    let result = source.report(request);
    assert_eq!(source.tree.entries, 0, "an entry was left behind");
    (result, source.tree)
}

#[test]
fn a_report_is_over_what_was_asked_and_comes_with_the_hosts_certificates() {
    let (found, model) = report(Model::snp(), &ASKED);
    let found = found.expect("report");
    assert_eq!(found.kind, TeeKind::SevSnp);
    assert_eq!(found.report.0[..64], [7; 64]);
    assert_eq!(found.certificates.0, [0xce; 48]);
    assert!(!model.written.contains_key("privlevel"), "nothing was asked for");

    let tdx = Model {
        driver: Some("tdx_guest\n"),
        floor: None,
        auxblob: None,
        ..Model::snp()
    };
    let found = report(tdx, &ASKED).0.expect("quote");
    assert_eq!((found.kind, found.certificates.0.len()), (TeeKind::Tdx, 0));
}

#[test]
fn another_programs_write_is_noticed_and_the_report_made_again() {
    let disturbed = Model {
        intruder: TRIES - 1,
        ..Model::snp()
    };
    let found = report(disturbed, &ASKED).0.expect("in the end");
    assert_eq!(found.report.0[..64], [7; 64], "never over the other program's data");

    let hopeless = Model {
        intruder: TRIES,
        ..Model::snp()
    };
    assert!(matches!(report(hopeless, &ASKED).0, Err(TeeError::Contended { .. })));
}

#[test]
fn a_stale_report_is_asked_for_again_and_another_failure_told() {
    for passing in [ErrorKind::WouldBlock, ErrorKind::ResourceBusy, ErrorKind::Interrupted] {
        let model = Model {
            fails: Some(passing.into()),
            ..Model::snp()
        };
        assert!(report(model, &ASKED).0.is_ok(), "{passing}");
    }
    let model = Model {
        fails: Some(ErrorKind::TimedOut.into()),
        ..Model::snp()
    };
    let failed = report(model, &ASKED).0.expect_err("timed out");
    assert!(matches!(failed, TeeError::Io { .. }) && !failed.is_absent());
}

#[test]
fn a_privilege_level_is_written_when_it_is_asked_for_or_the_only_one_allowed() {
    let level = |model, vmpl| {
        let (found, model) = report(model, &ReportRequest { vmpl, ..ASKED });
        found.map(|_| model.written.get("privlevel").cloned())
    };
    assert_eq!(level(Model::snp(), Some(2)).expect("taken"), Some(b"2".to_vec()));
    let under_svsm = Model {
        floor: Some(2),
        ..Model::snp()
    };
    assert_eq!(level(under_svsm, None).expect("floor"), Some(b"2".to_vec()));
    assert!(matches!(level(Model::snp(), Some(4)), Err(TeeError::Io { .. })));
    let tdx = Model {
        floor: None,
        ..Model::snp()
    };
    assert!(matches!(level(tdx, Some(1)), Err(TeeError::NoVmpl { vmpl: 1 })));
}

/// As rempartd asks and rempart-evidence reads it.
#[test]
fn the_level_that_a_question_names_is_the_one_that_the_kernel_is_given() {
    use crate::service::{Question, Request};
    let through = |vmpl, floor| {
        let question = Request {
            report_data: Fixed([7; 64]),
            vmpl,
            provider: Some(TeeProvider::ConfigfsTsm),
        };
        let read = match Question::read(&question.to_bytes()[..]).expect("read") {
            Some(Question::Tee(read)) => read,
            other => panic!("{other:?}"),
        };
        let model = Model {
            floor: Some(floor),
            ..Model::snp()
        };
        let (found, model) = report(model, &ReportRequest::from(&read));
        found.map(|_| model.written.get("privlevel").cloned())
    };
    for level in 0..=3 {
        let written = through(Some(level), 0).expect("report");
        assert_eq!(written, Some(level.to_string().into_bytes()));
    }
    assert_eq!(through(None, 0).expect("report"), None, "the kernel's own choice");
    assert_eq!(through(None, 2).expect("report"), Some(b"2".to_vec()), "under an SVSM");
    // A level that this guest may not ask for is refused by the kernel and never raised to one that it may.
    assert!(matches!(
        through(Some(1), 2),
        Err(TeeError::Io {
            what: "write privlevel",
            ..
        })
    ));
}

#[test]
fn each_kind_of_absence_has_its_name() {
    let no_driver = Model::default();
    assert!(matches!(report(no_driver, &ASKED).0, Err(TeeError::NoDriver)));
    let other = Model {
        driver: Some("arm_cca_guest\n"),
        ..Model::snp()
    };
    let unknown = report(other, &ASKED).0.expect_err("unknown");
    assert!(matches!(&unknown, TeeError::UnknownDriver { name } if name == "arm_cca_guest") && unknown.is_absent());
}

#[test]
fn an_over_long_or_empty_answer_is_refused() {
    let long = Model {
        size: limits::TEE_REPORT + 1,
        ..Model::snp()
    };
    assert!(matches!(report(long, &ASKED).0, Err(TeeError::Malformed { .. })));
    let table = Model {
        auxblob: Some(vec![1; limits::TEE_CERTIFICATES + 1]),
        ..Model::snp()
    };
    assert!(matches!(report(table, &ASKED).0, Err(TeeError::Malformed { .. })));
    let name = Model {
        driver: Some("sev_guest\u{1b}[2J"),
        ..Model::snp()
    };
    assert!(matches!(report(name, &ASKED).0, Err(TeeError::Malformed { .. })));
}

#[test]
fn a_folder_that_is_not_there_is_a_kernel_without_the_interface() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut source = ConfigfsTsm::at(&folder.path().join("tsm/report"));
    assert!(matches!(source.report(&ASKED), Err(TeeError::NoInterface { .. })));
    // In a plain folder an entry can be made and has no attributes: told as a failure, and the entry is gone.
    let mut source = ConfigfsTsm::at(folder.path());
    let failed = source.report(&ASKED).expect_err("no attributes");
    assert!(matches!(failed, TeeError::Io { .. }), "{failed}");
    assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 0);
}

#[test]
fn only_old_entries_of_ours_are_swept() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let make = |name: &str, age: Duration| {
        let path = folder.path().join(name);
        fs::create_dir(&path).expect("folder");
        let times = fs::FileTimes::new().set_modified(SystemTime::now() - age);
        fs::File::open(&path).expect("open").set_times(times).expect("times");
        path
    };
    let old = make("rempart-1", 2 * STALE);
    let new = make("rempart-2", Duration::ZERO);
    let foreign = make("other", 2 * STALE);
    let _ = ConfigfsTsm::at(folder.path()).report(&ASKED);
    assert!(!old.exists() && new.exists() && foreign.exists());
}
