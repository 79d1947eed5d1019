//! A unit's configuration file, made of a text and its secrets.

use std::fs;

use rempart_api::agent::Deliver;
use rempart_harness::OpenBao;

use crate::{
    ALLOW,
    world::{VALUE, World},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_gets_a_file_with_its_secrets_in_it_and_of_a_wrong_text_nothing() {
    let mut world = World::new().await;
    let text = world.at("app.conf.j2");
    let unit = format!(
        "[Service]\nExecStart=/usr/bin/web\n[X-Rempart]\nWrap=yes\nRole=web\nMemory=secret\nMemorySize=64M\n\
         Secret=user:template=kv/web#user\nSecret=password:template=kv/web#tls_key\nSecret=KEY:fd=kv/web#user\n\
         Template=app.conf={}\n",
        text.display()
    );
    fs::write(world.at("units/web.service"), unit).expect("write");
    let bao = OpenBao::start(&world.pki).expect("OpenBao");
    bao.put_secret("web", &[("tls_key", VALUE), ("user", "web-user")])
        .expect("secret");
    bao.role("web", &["web"]).expect("role");
    let vault = world.vault(&bao);
    world.start_agent_with(&vault, ALLOW);
    world.wait_for_state("unlocked");

    assert!(
        world
            .ask()
            .expect_err("no text")
            .contains("app.conf.j2 of web.service gives no file")
    );
    fs::write(&text, "user={{ secrets.user }}\npassword={{ secrets.pasword }}\n").expect("write");
    let refusal = world.ask().expect_err("misspelt");
    assert!(refusal.contains("line 2: undefined value"), "{refusal}");
    fs::write(&text, "user={{ secrets.user }}\npassword={{ secrets.password }}\n").expect("write");
    let (area, items) = world.ask().expect("released");
    let names: Vec<_> = items.iter().map(|item| (item.name.as_str(), item.deliver)).collect();
    assert_eq!(
        names,
        [("KEY", Deliver::Fd), ("app.conf", Deliver::File)],
        "the others go nowhere else"
    );
    let file = &area.as_slice()[items[1].offset..items[1].offset + items[1].len];
    assert_eq!(file, format!("user=web-user\npassword={VALUE}\n").as_bytes());
    assert!(
        items[1]
            .path
            .as_deref()
            .is_some_and(|path| path.ends_with("/web.service/app.conf"))
    );
    assert!(
        !world.logs().contains(VALUE) && !world.logs().contains("web-user"),
        "{}",
        world.logs()
    );
}
