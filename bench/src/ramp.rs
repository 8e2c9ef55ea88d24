//! Stages of a load whose number of connections changes while it goes on.

use std::time::Duration;

use anyhow::Context as _;

/// One stage: the number of connections changes evenly until its end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stage {
    /// How long it takes.
    pub duration: Duration,
    /// Connections at its end.
    pub connections: u64,
}

/// Stages one after the other, from one connection on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ramp(Vec<Stage>);

impl std::str::FromStr for Stage {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (duration, connections) = text.split_once(':').context("a stage is SECONDS:CONNECTIONS, such as 10s:64")?;
        let (digits, scale) = match duration.strip_suffix('m') {
            Some(minutes) => (minutes, 60.0),
            None => (duration.strip_suffix('s').unwrap_or(duration), 1.0),
        };
        let seconds: f64 = digits.parse().with_context(|| format!("{duration} is no duration"))?;
        let duration = Duration::try_from_secs_f64(seconds * scale).context("a stage that takes no time")?;
        let connections = connections.parse().with_context(|| format!("{connections} is no number of connections"))?;
        anyhow::ensure!(!duration.is_zero(), "a stage takes some time");
        anyhow::ensure!((1..=20_000).contains(&connections), "a stage has 1 to 20000 connections");
        Ok(Self { duration, connections })
    }
}

impl Ramp {
    /// These stages; `None` of none.
    pub(crate) fn new(stages: &[Stage]) -> Option<Self> {
        (!stages.is_empty()).then(|| Self(stages.to_vec()))
    }

    pub(crate) fn duration(&self) -> Duration {
        self.0.iter().map(|stage| stage.duration).sum()
    }

    /// The most connections that send at once.
    pub(crate) fn most(&self) -> u64 {
        self.0.iter().map(|stage| stage.connections).max().unwrap_or(1)
    }

    /// How many connections send at this time after the start.
    pub(crate) fn connections(&self, since: Duration) -> u64 {
        let (mut begin, mut before) = (Duration::ZERO, 1.0);
        for stage in &self.0 {
            let after = stage.connections as f64;
            if since < begin + stage.duration {
                let share = (since - begin).as_secs_f64() / stage.duration.as_secs_f64();
                return (before + (after - before) * share).round() as u64;
            }
            (begin, before) = (begin + stage.duration, after);
        }
        before as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_follow_the_stages() {
        let stages: Vec<Stage> = ["10s:11", "10:11", "1m:1"].iter().map(|text| text.parse().unwrap()).collect();
        let ramp = Ramp::new(&stages).unwrap();
        assert_eq!((ramp.duration(), ramp.most()), (Duration::from_secs(80), 11));
        for (second, connections) in [(0, 1), (5, 6), (10, 11), (15, 11), (50, 6), (80, 1), (200, 1)] {
            assert_eq!(ramp.connections(Duration::from_secs(second)), connections, "{second}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "10s", "10s:", "10s:0", "soon:4", "0s:4", "-1s:4"] {
            assert!(text.parse::<Stage>().is_err(), "{text}");
        }
    }
}
