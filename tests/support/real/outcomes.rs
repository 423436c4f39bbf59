//! What became of the calls and connections of several loads.

use super::calls::{Load, Outcome};

/// What became of all calls.
#[derive(Debug)]
pub(crate) struct Outcomes(Vec<(String, Outcome)>);

/// What became of the connections of one process when others took them, as its report says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moves {
    pub(crate) http2: u64,
    pub(crate) upgraded: u64,
    pub(crate) stream: u64,
    /// They ended in the process while others moved, and not as their client was closing them.
    pub(crate) unmoved: u64,
}

impl Outcomes {
    /// Stops the clients.
    #[track_caller]
    pub(crate) fn of(loads: Vec<Load>) -> Self {
        Self(loads.into_iter().map(|load| (load.name.clone(), load.stop())).collect())
    }

    pub(crate) fn print(&self, what: &str) {
        for (name, Outcome { answered, opened, lost }) in &self.0 {
            println!("{what}, {name}: {answered} answered, {} lost, {opened} connections opened", lost.len());
        }
    }

    /// Fails where a call was lost, or none was answered.
    #[track_caller]
    pub(crate) fn assert_none_lost(&self, context: impl Fn() -> String) {
        for (name, Outcome { answered, lost, .. }) in &self.0 {
            let first: Vec<_> = lost.iter().take(10).collect();
            assert!(first.is_empty(), "{name}: {} lost: {first:#?}\n{}", lost.len(), context());
            assert!(*answered > 0, "{name}: none answered");
        }
    }

    pub(crate) fn answered(&self) -> u64 {
        self.0.iter().map(|(_, outcome)| outcome.answered).sum()
    }

    /// How many connections were opened.
    pub(crate) fn opened(&self) -> u64 {
        self.0.iter().map(|(_, outcome)| outcome.opened).sum()
    }

    pub(crate) fn lost(&self) -> impl Iterator<Item = &String> {
        self.0.iter().flat_map(|(_, outcome)| &outcome.lost)
    }
}

impl Moves {
    /// Of a report: `.., 50 moved (42 http1, 8 http2), 3 not moved (3 open_streams)`.
    pub(crate) fn of(report: &str) -> Self {
        let number = |words: &str| {
            let end = report.find(words)?;
            report[..end].rsplit([' ', '(']).next()?.parse().ok()
        };
        let number = |words| number(words).unwrap_or(0);
        let (http2, upgraded, stream) = (number(" http2"), number(" upgraded"), number(" stream"));
        // No server here says GOAWAY before: h2load does at the end of each run.
        Self { http2, upgraded, stream, unmoved: number(" not moved") - number(" going_away") }
    }

    /// All of them.
    pub(crate) fn sum<'a>(reports: impl IntoIterator<Item = &'a String>) -> Self {
        let add = |sum: Self, more: Self| Self {
            http2: sum.http2 + more.http2,
            upgraded: sum.upgraded + more.upgraded,
            stream: sum.stream + more.stream,
            unmoved: sum.unmoved + more.unmoved,
        };
        reports.into_iter().map(|report| Self::of(report)).fold(Self::default(), add)
    }

    pub(crate) fn moved(self) -> u64 {
        self.http2 + self.upgraded + self.stream
    }

    /// Of a hundred.
    pub(crate) fn percent(self) -> u64 {
        match self.moved() + self.unmoved {
            0 => 100,
            all => 100 * self.moved() / all,
        }
    }
}
