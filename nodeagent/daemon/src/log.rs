//! Log lines for the journal: `<priority>text`, one line each, as sd-daemon(3) describes it.
//!
//! Only our own crates speak. The HTTP and vault libraries could print requests and answers at their lower levels, so
//! no environment variable can turn them on. `REMPART_LOG=debug` has our own crates say more.

use std::fmt::Write;

use tracing::{Event, Level, Subscriber, field::Visit};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

/// Starts logging to standard error, which systemd connects to the journal.
pub fn start() {
    let lines = tracing_subscriber::fmt::layer()
        .event_format(Line)
        .with_writer(std::io::stderr);
    let level = match std::env::var("REMPART_LOG").as_deref() {
        Ok("debug") => LevelFilter::DEBUG,
        _ => LevelFilter::INFO,
    };
    let ours = Targets::new().with_target("rempart", level);
    tracing_subscriber::registry().with(ours).with(lines).init();
}

struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> std::fmt::Result {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        };
        let mut message = Message(String::new());
        event.record(&mut message);
        // A line feed would end the journal entry and let the rest pose as another one.
        let line: String = message
            .0
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        writeln!(out, "<{priority}>{line}")
    }
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            // Writing to a String cannot fail.
            let _ = write!(self.0, "{value:?}");
        }
    }
}
