//! The harness's own promise: the real servers come up as the tests need them, and go away.

use std::process::Command;

use anyhow::Result;
use rempart_harness::{OpenBao, Pki, Postgres, Tpm};

#[test]
fn openbao_keeps_secrets_over_a_seal_and_a_restart() -> Result<()> {
    let mut bao = OpenBao::start(&Pki::open()?)?;
    bao.put_secret("billing", &[("db_password", "x1")])?;
    bao.trust_verifier(
        "https://127.0.0.1:9/.well-known/jwks.json",
        "https://verifier.rempart.test:8443",
    )?;
    bao.role("billing", &["billing"])?;
    let read = |bao: &OpenBao| bao.bao(&["kv", "get", "-mount=kv", "-field=db_password", "billing"], None);
    assert_eq!(read(&bao)?, "x1");
    bao.seal()?;
    assert!(read(&bao).is_err());
    bao.unseal()?;
    assert_eq!(read(&bao)?, "x1");
    bao.stop_process();
    assert!(read(&bao).is_err());
    bao.run_process()?;
    bao.unseal()?;
    assert_eq!(read(&bao)?, "x1");
    assert!(bao.audit_log()?.contains("kv/data/billing"));
    assert!(!bao.audit_log()?.contains("\"x1\""));
    Ok(())
}

#[test]
fn postgres_takes_a_login_by_scram_over_tls_only() -> Result<()> {
    let server = Postgres::start(&Pki::open()?)?;
    server.login("billing", "it's secret")?;
    let psql = |password: &str, tls: &str| {
        let target = format!(
            "host=127.0.0.1 port={} dbname=billing user=billing sslmode={tls}",
            server.port()
        );
        Command::new("psql")
            .args(["-X", "-A", "-t", "-c", "select current_user", &target])
            .env("PGPASSWORD", password)
            .output()
    };
    let good = psql("it's secret", "require")?;
    assert_eq!(
        String::from_utf8_lossy(&good.stdout).trim(),
        "billing",
        "{}",
        String::from_utf8_lossy(&good.stderr)
    );
    assert!(!psql("wrong", "require")?.status.success());
    assert!(!psql("it's secret", "disable")?.status.success());
    Ok(())
}

#[test]
fn a_tpm_has_an_endorsement_certificate_and_serves_programs() -> Result<()> {
    let tpm = Tpm::manufacture()?;
    for file in Tpm::authority_chain() {
        assert!(file.exists(), "{}", file.display());
    }
    let socket = tpm.data_socket()?;
    if Command::new("tpm2_nvread").arg("--version").output().is_ok() {
        let read = Command::new("tpm2_nvread")
            .args(["-C", "o", "0x01c00002", "-T", &socket.tcti()])
            .output()?;
        assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
        assert_eq!(read.stdout.first(), Some(&0x30), "not DER");
    }
    socket.stop();
    Ok(())
}
