//! After everything: no secret value, token or result lies in clear in the guest's files, its journal, the audit log, the
//! host's files or OpenBao's audit device. A planted control must be found by the same search.

use crate::{
    report::{Outcome, Report},
    stage::Stage,
};

/// Searched in the guest; the control file is written first. memfd and /proc are the attack table's business.
const GUEST: &str = r#"
import os,re,sys,json,subprocess
needles=[bytes.fromhex(line) for line in sys.stdin.read().split()]
token=re.compile(rb'\b[sb]\.[A-Za-z0-9]{24}\b|\bhvs\.[A-Za-z0-9_-]{24,}|eyJ[A-Za-z0-9_-]{20,}\.eyJ[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,}')
open('/var/lib/rempart-leak-control','wb').write(needles[0])
found={}
def look(name,data):
    for i,n in enumerate(needles):
        if n in data: found.setdefault(str(i),[]).append(name)
    if token.search(data): found.setdefault('token',[]).append(name)
count=0
for top in ('/etc','/var','/run','/tmp','/root','/home','/opt','/srv','/dev/shm'):
    for folder,_,names in os.walk(top):
        for name in names:
            path=os.path.join(folder,name)
            try:
                if os.path.islink(path) or not os.path.isfile(path): continue
                data=open(path,'rb').read()
            except OSError: continue
            count+=1; look(path,data)
look('journal',subprocess.run(['journalctl','-b','-o','export','--no-pager'],capture_output=True).stdout)
print(json.dumps({'files':count,'found':found}))
"#;

pub fn play(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    let control = format!("rempart-control-{}", std::process::id());
    let mut needles = vec![control.clone().into_bytes()];
    needles.extend(stage.site().needles());
    let hex: String = needles
        .iter()
        .map(|needle| needle.iter().map(|b| format!("{b:02x}")).collect::<String>() + "\n")
        .collect();
    let out = stage.node()?.exec_stdin(&["/usr/bin/python3", "-c", GUEST], &hex)?;
    let answer: serde_json::Value =
        serde_json::from_str(out.stdout.trim()).map_err(|e| anyhow::anyhow!("{e}: {} {}", out.stdout, out.stderr))?;
    let found = answer["found"].as_object().cloned().unwrap_or_default();
    let control_found = found.contains_key("0");
    let others: Vec<_> = found
        .iter()
        .filter(|(key, _)| *key != "0")
        .map(|(key, at)| format!("{key}: {at}"))
        .collect();
    let seen = if control_found && others.is_empty() {
        Outcome::Denied
    } else {
        Outcome::Works
    };
    let said = format!(
        "{} files and the journal searched, control found: {control_found}, secrets found: {others:?}",
        answer["files"]
    );
    report.row(
        "leak::guest",
        Outcome::Denied,
        if control_found { seen } else { Outcome::Broken },
        said,
    );

    let (files, control_found, others) = stage.site().search_host(&control, &needles[1..])?;
    let seen = match (control_found, others.is_empty()) {
        (true, true) => Outcome::Denied,
        (true, false) => Outcome::Works,
        (false, _) => Outcome::Broken,
    };
    report.row(
        "leak::host",
        Outcome::Denied,
        seen,
        format!("{files} files (consoles, vault storage and audit, Verifier state, images) searched, control found: {control_found}, secrets found: {others:?}"),
    );
    Ok(())
}
