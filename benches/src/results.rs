//! Samples of all rounds, and what is said about them: medians, and ratios of the rounds pair by pair.

use serde::{Deserialize, Serialize};

use crate::limits::Limits;
use crate::machine::Machine;
use crate::measure::Value;
use crate::metric::Metric;
use crate::rows::Row;

/// Median, least and most.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
        Some(Self { median, min, max })
    }
}

/// One side of a line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Side {
    pub(crate) label: String,
    #[serde(flatten)]
    pub(crate) spread: Spread,
    pub(crate) samples: Vec<f64>,
    /// Part of the raw limit, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) share_of_limit: Option<f64>,
    /// How many times better the first side is than this one, round by round; above 1 is better, whatever the metric.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ratio: Option<Spread>,
}

/// One metric of one row.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) row: String,
    pub(crate) metric: Metric,
    pub(crate) unit: String,
    pub(crate) higher_is_better: bool,
    pub(crate) sides: Vec<Side>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<String>,
}

/// Everything a run found out.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) date: String,
    pub(crate) command: String,
    pub(crate) quick: bool,
    pub(crate) rounds: usize,
    pub(crate) machine: Machine,
    pub(crate) limits: Limits,
    pub(crate) notes: Vec<String>,
    pub(crate) failures: Vec<String>,
    pub(crate) lines: Vec<Line>,
}

/// The samples of a row while it runs.
#[derive(Default)]
pub(crate) struct Samples(Vec<(Metric, String, Vec<f64>)>);

impl Samples {
    pub(crate) fn add(&mut self, value: Value) {
        match self.0.iter_mut().find(|(metric, side, _)| *metric == value.metric && *side == value.side) {
            Some((_, _, values)) => values.push(value.value),
            None => self.0.push((value.metric, value.side, vec![value.value])),
        }
    }

    /// The lines of the table, with the sides in the given order.
    pub(crate) fn lines(&self, row: &Row, order: &[String], limits: &Limits) -> Vec<Line> {
        let mut metrics: Vec<Metric> = Vec::new();
        for (metric, _, _) in &self.0 {
            if !metrics.contains(metric) {
                metrics.push(*metric);
            }
        }
        metrics.into_iter().map(|metric| self.line(row, metric, order, limits)).collect()
    }

    fn line(&self, row: &Row, metric: Metric, order: &[String], limits: &Limits) -> Line {
        let limit = row.limits().into_iter().find(|limit| limit.metric() == metric);
        let mut sides: Vec<Side> = order
            .iter()
            .filter_map(|label| {
                let (_, _, samples) = self.0.iter().find(|(m, side, _)| *m == metric && side == label)?;
                let spread = Spread::of(samples)?;
                let share_of_limit = limit.map(|limit| limit.share(spread.median, limits));
                Some(Side { label: label.clone(), spread, samples: samples.clone(), share_of_limit, ratio: None })
            })
            .collect();
        if let Some((first, others)) = sides.split_first_mut() {
            others.iter_mut().for_each(|side| side.ratio = ratios(metric, &first.samples, &side.samples));
        }
        Line {
            row: row.name.clone(),
            metric,
            unit: metric.unit().to_owned(),
            higher_is_better: metric.higher_is_better(),
            sides,
            limit: limit.map(|limit| limit.name().to_owned()),
        }
    }
}

fn ratios(metric: Metric, a: &[f64], b: &[f64]) -> Option<Spread> {
    let better = |(a, b): (&f64, &f64)| {
        if metric.higher_is_better() { a / b } else { b / a }
    };
    let finite: Vec<f64> = a.iter().zip(b).map(better).filter(|ratio| ratio.is_finite()).collect();
    Spread::of(&finite)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratio_is_pairwise_and_above_one_when_the_first_side_is_better() {
        let throughput = ratios(Metric::MegabytesPerSecond, &[10.0, 30.0, 20.0], &[10.0, 10.0, 10.0]);
        assert_eq!(throughput, Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        let latency = ratios(Metric::P99, &[1.0, 2.0], &[4.0, 4.0]);
        assert_eq!(latency, Some(Spread { median: 3.0, min: 2.0, max: 4.0 }));
        assert_eq!(ratios(Metric::CpuPerGigabyte, &[0.0], &[0.0]), None);
    }
}
