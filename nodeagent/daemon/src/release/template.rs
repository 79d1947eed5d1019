//! A configuration file made of a text and the unit's secrets: `{{ secrets.NAME }}`, in Jinja's language (minijinja), which reads no file
//! and asks nobody.
//!
//! Must never tell a value: of an error only its kind and line are told.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
};

use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value, context, syntax::SyntaxConfig};
use rempart_api::agent::Deliver;
use rempart_core::unitfile::{OptIn, TemplateSpec};
use rempart_secret::SecretBytes;

use super::{Refusal, layout::Delivery};

/// Longest text and longest result, in bytes.
const MAX_TEXT: u64 = 1 << 20;
/// Steps of one rendering: thousands of lines, and no endless loop.
const FUEL: u64 = 1_000_000;

/// What is delivered: each secret that is not for templates only, and each template. `values` are those of `secrets`, then those of
/// `ingredients`.
pub fn deliveries(unit: &str, opt_in: &OptIn, mut values: Vec<SecretBytes>) -> Result<Vec<Delivery>, Refusal> {
    let mut rendered = Vec::with_capacity(opt_in.templates.len());
    if !opt_in.templates.is_empty() {
        let secrets: BTreeMap<String, Value> = opt_in
            .names()
            .zip(&values)
            // What is no text cannot stand in one, and is undefined there.
            .filter_map(|(name, value)| Some((name.clone(), Value::from(std::str::from_utf8(value.expose()).ok()?))))
            .collect();
        let secrets = Value::from_object(secrets);
        for template in &opt_in.templates {
            let failed = |why: String| Refusal::Template {
                unit: unit.to_owned(),
                path: template.path.clone(),
                why,
            };
            rendered
                .push(render(&read(template).map_err(|error| failed(error.to_string()))?, &secrets).map_err(failed)?);
        }
    }
    values.truncate(opt_in.secrets.len());
    let delivery = |((name, deliver), value): ((&str, Deliver), SecretBytes)| Delivery {
        name: name.to_owned(),
        deliver,
        access: opt_in.access.get(name).cloned().unwrap_or_default(),
        value,
    };
    Ok(opt_in
        .delivered()
        .zip(values.into_iter().chain(rendered))
        .map(delivery)
        .collect())
}

/// A regular file, and no longer than it may be; a pipe in its place holds nothing up.
fn read(template: &TemplateSpec) -> io::Result<String> {
    let file = File::options()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC)
        .open(&template.path)?;
    let known = file.metadata()?;
    if !known.is_file() || known.len() > MAX_TEXT {
        return Err(io::Error::other(format!("it is no file of at most {MAX_TEXT} bytes")));
    }
    let mut text = String::new();
    file.take(MAX_TEXT).read_to_string(&mut text)?;
    Ok(text)
}

fn render(text: &str, secrets: &Value) -> Result<SecretBytes, String> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build();
    environment.set_syntax(syntax.map_err(|error| error.kind().to_string())?);
    environment.set_fuel(Some(FUEL));
    let told = |error: minijinja::Error| match error.line() {
        Some(line) => format!("line {line}: {}", error.kind()),
        None => error.kind().to_string(),
    };
    let mut page = Page(Vec::new());
    let rendered = environment.template_from_str(text).and_then(|template| {
        template
            .render_captured_to(context! { secrets => secrets.clone() }, &mut page)
            .map(drop)
    });
    let page = SecretBytes::from(page.0);
    match rendered {
        Ok(()) => Ok(page),
        Err(error) if error.kind() == ErrorKind::WriteFailure => {
            Err(format!("its result has more than {MAX_TEXT} bytes"))
        }
        Err(error) => Err(told(error)),
    }
}

/// At most [`MAX_TEXT`] bytes.
struct Page(Vec<u8>);

impl io::Write for Page {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if (self.0.len() + piece.len()) as u64 > MAX_TEXT {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str) -> Result<String, String> {
        let secrets = BTreeMap::from([("user", "app"), ("tls.key", "-----KEY-----\nx\n"), ("pw", "hunter2")]);
        let secrets: BTreeMap<String, Value> = secrets
            .into_iter()
            .map(|(name, value)| (name.to_owned(), Value::from(value)))
            .collect();
        let secrets = Value::from_object(secrets);
        render(text, &secrets).map(|value| String::from_utf8(value.expose().clone()).expect("text"))
    }

    #[test]
    fn secrets_stand_where_their_names_stood() {
        let text =
            "url = \"postgresql://{{ secrets.user }}:{{ secrets.pw | urlencode }}@db\"\n{{ secrets['tls.key'] }}";
        let whole = "url = \"postgresql://app:hunter2@db\"\n-----KEY-----\nx\n";
        assert_eq!(rendered(text).as_deref(), Ok(whole));
        assert_eq!(rendered("{{ secrets.pw }}\n").as_deref(), Ok("hunter2\n"));
        assert_eq!(
            rendered("<{{ secrets.pw }}&>").as_deref(),
            Ok("<hunter2&>"),
            "nothing is escaped"
        );
        assert_eq!(
            rendered("{% if secrets.user == 'app' %}yes{% endif %}").as_deref(),
            Ok("yes")
        );
    }

    #[test]
    fn what_is_wrong_is_told_without_a_value() {
        for (text, line) in [
            ("a\n{{ secrets.none }}", "line 2"),
            ("{{ secrets.pw | int }}", "line 1"),
            ("{{ secrets.pw + 1 }}", "line 1"),
            (
                "{% for x in range(100000) %}{% for y in range(100000) %}{{ x }}{% endfor %}{% endfor %}",
                "line 1",
            ),
            ("{{ secrets.pw", "line 1"),
            ("{% include '/etc/shadow' %}", "line 1"),
        ] {
            let why = rendered(text).expect_err(text);
            assert!(why.contains(line) && !why.contains("hunter2"), "{text}: {why}");
        }
    }

    #[test]
    fn a_result_has_its_bound_while_it_grows() {
        let text = "{% for x in range(5000) %}{{ secrets.pw * 1000 }}{% endfor %}";
        let why = rendered(text).map(|page| page.len()).expect_err("too long");
        assert!(why.contains("more than") || why.contains("line 1"), "{why}");
        let text = format!("{{% for x in range(20) %}}{}{{% endfor %}}", "x".repeat(100_000));
        assert!(rendered(&text).expect_err("too long").contains("more than"));
    }

    #[test]
    fn a_pipe_or_a_folder_is_no_template() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        for path in [pipe.as_path(), folder.path(), &folder.path().join("none")] {
            let template = TemplateSpec {
                name: "x".into(),
                deliver: Deliver::File,
                path: path.display().to_string(),
            };
            assert!(read(&template).is_err(), "{path:?}");
        }
    }
}
