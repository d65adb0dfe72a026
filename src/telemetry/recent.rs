//! The last day by the minute, for people who look at charts: deliveries by outcome, how long their answers took, how
//! old the oldest queued task was. Whoever stores metrics takes [`Metrics::encode`] instead.
//!
//! A ring of minutes with fixed counters: its size does not depend on what comes in. It is lost with the process.
//!
//! [`Metrics::encode`]: super::metrics::Metrics::encode

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

/// Minutes that are kept.
pub const MINUTES_MAX: u64 = 24 * 60;
/// Steps of answer times: step `n` ends at 2^(n/2) ms, the last one has no end.
const STEPS: usize = 30;

/// How a delivery was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Accepted,
    Ignored,
    Duplicate,
    Refused,
}

/// What came in during some minutes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Span {
    pub accepted: u64,
    pub ignored: u64,
    pub duplicate: u64,
    pub refused: u64,
    /// Within so many milliseconds half of the answers went out; `None` without any.
    pub ack_ms_p50: Option<f64>,
    pub ack_ms_p99: Option<f64>,
    pub ack_ms_max: Option<f64>,
    /// `None` when nobody looked.
    pub queue_age_seconds_max: Option<f64>,
}

/// A span and how long before now it began.
#[derive(Clone, Debug, PartialEq)]
pub struct Dated {
    pub begun_before: Duration,
    pub span: Span,
}

#[derive(Debug)]
pub struct Recent {
    since: Instant,
    minutes: Mutex<VecDeque<Minute>>,
}

#[derive(Clone, Debug, Default)]
struct Minute {
    number: u64,
    answers: [u64; 4],
    steps: [u32; STEPS],
    slowest_ms: f64,
    queue_age: Option<f64>,
}

impl Recent {
    pub fn new(since: Instant) -> Self {
        Self { since, minutes: Mutex::new(VecDeque::new()) }
    }

    pub fn answered(&self, answer: Answer, elapsed: Duration) {
        let milliseconds = elapsed.as_secs_f64() * 1000.0;
        self.now(|minute| {
            minute.answers[answer as usize] += 1;
            minute.steps[step(milliseconds)] += 1;
            minute.slowest_ms = minute.slowest_ms.max(milliseconds);
        });
    }

    pub fn queue_age(&self, age: Duration) {
        self.now(|minute| minute.queue_age = Some(minute.queue_age.unwrap_or(0.0).max(age.as_secs_f64())));
    }

    /// The last `minutes` in spans of `minutes_each`, oldest first; spans without a minute are empty.
    pub fn spans(&self, minutes: u64, minutes_each: u64) -> Vec<Dated> {
        let (minutes, each) = (minutes.clamp(1, MINUTES_MAX), minutes_each.clamp(1, MINUTES_MAX));
        let elapsed = self.since.elapsed();
        // Spans end at multiples of their length, so that a chart does not tremble while it is watched.
        let end = elapsed.as_secs() / 60 / each * each + each;
        let kept = self.minutes.lock().unwrap_or_else(PoisonError::into_inner);
        (1..=minutes.div_ceil(each))
            .rev()
            .map(|spans_back| {
                let minutes_back = spans_back * each;
                let of_span =
                    |minute: &&Minute| minute.number + minutes_back >= end && minute.number + minutes_back < end + each;
                // The span may have begun before the first minute.
                let begun_before =
                    (elapsed + Duration::from_secs(minutes_back * 60)).saturating_sub(Duration::from_secs(end * 60));
                Dated { begun_before, span: span(kept.iter().filter(of_span)) }
            })
            .collect()
    }

    fn now(&self, change: impl FnOnce(&mut Minute)) {
        let number = self.since.elapsed().as_secs() / 60;
        let mut minutes = self.minutes.lock().unwrap_or_else(PoisonError::into_inner);
        if minutes.back().is_none_or(|last| last.number < number) {
            minutes.push_back(Minute { number, ..Minute::default() });
        }
        while minutes.front().is_some_and(|first| first.number + MINUTES_MAX < number) {
            minutes.pop_front();
        }
        if let Some(minute) = minutes.back_mut() {
            change(minute);
        }
    }
}

fn step(milliseconds: f64) -> usize {
    (0..STEPS - 1).find(|step| milliseconds <= edge_ms(*step)).unwrap_or(STEPS - 1)
}

fn edge_ms(step: usize) -> f64 {
    2_f64.powf(step as f64 / 2.0)
}

fn span<'a>(minutes: impl Iterator<Item = &'a Minute>) -> Span {
    let mut all = Minute::default();
    for minute in minutes {
        all.answers.iter_mut().zip(minute.answers).for_each(|(sum, more)| *sum += more);
        all.steps.iter_mut().zip(minute.steps).for_each(|(sum, more)| *sum = sum.saturating_add(more));
        all.slowest_ms = all.slowest_ms.max(minute.slowest_ms);
        let oldest = all.queue_age.into_iter().chain(minute.queue_age).reduce(f64::max);
        all.queue_age = oldest;
    }
    let [accepted, ignored, duplicate, refused] = all.answers;
    let some = accepted + ignored + duplicate + refused > 0;
    Span {
        accepted,
        ignored,
        duplicate,
        refused,
        ack_ms_p50: quantile(&all, 0.5),
        ack_ms_p99: quantile(&all, 0.99),
        ack_ms_max: some.then_some(all.slowest_ms),
        queue_age_seconds_max: all.queue_age,
    }
}

/// The upper edge of the step that the quantile falls into, and never more than the slowest one.
fn quantile(minute: &Minute, share: f64) -> Option<f64> {
    let total: u64 = minute.steps.iter().map(|count| u64::from(*count)).sum();
    let wanted = ((total as f64) * share).ceil().max(1.0) as u64;
    let mut seen = 0;
    let step = minute.steps.iter().position(|count| {
        seen += u64::from(*count);
        seen >= wanted
    })?;
    let edge = if step == STEPS - 1 { minute.slowest_ms } else { edge_ms(step) };
    Some(edge.min(minute.slowest_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn time_before_the_start_is_shown_empty() {
        let recent = Recent::new(Instant::now());
        recent.answered(Answer::Accepted, MS);
        let spans = recent.spans(60, 1);
        assert_eq!((spans.len(), spans[59].span.accepted, spans[58].span.accepted), (60, 1, 0));
        let apart = spans[0].begun_before.saturating_sub(spans[59].begun_before);
        assert_eq!(apart, Duration::from_secs(59 * 60));
    }

    fn only(recent: &Recent) -> Span {
        recent.spans(60, 60).pop().unwrap().span
    }

    #[test]
    fn answers_are_counted_and_their_times_ordered() {
        let recent = Recent::new(Instant::now());
        (0..98).for_each(|_| recent.answered(Answer::Accepted, MS));
        recent.answered(Answer::Refused, MS * 150);
        recent.answered(Answer::Duplicate, MS * 300);
        let span = only(&recent);
        assert_eq!((span.accepted, span.ignored, span.duplicate, span.refused), (98, 0, 1, 1));
        assert_eq!(span.ack_ms_p50, Some(1.0));
        let p99 = span.ack_ms_p99.unwrap();
        assert!((150.0..=300.0).contains(&p99), "{p99}");
        assert_eq!(span.ack_ms_max, Some(300.0));
        assert_eq!(span.queue_age_seconds_max, None);
    }

    #[test]
    fn the_oldest_age_of_a_span_is_shown() {
        let recent = Recent::new(Instant::now());
        recent.queue_age(MS * 4000);
        recent.queue_age(MS * 1000);
        assert_eq!(only(&recent).queue_age_seconds_max, Some(4.0));
        assert_eq!(only(&recent).ack_ms_p50, None);
    }

    #[test]
    fn minutes_older_than_a_day_are_let_go_and_spans_are_bounded() {
        let long = Duration::from_secs(60 * 60 * 48);
        let Some(since) = Instant::now().checked_sub(long) else { return };
        let recent = Recent::new(since);
        recent.minutes.lock().unwrap().push_back(Minute { answers: [7, 0, 0, 0], ..Minute::default() });
        recent.answered(Answer::Accepted, MS);
        assert_eq!(recent.minutes.lock().unwrap().len(), 1);
        let spans = recent.spans(u64::MAX, 10);
        assert_eq!(spans.len(), 144);
        assert_eq!(spans.iter().map(|dated| dated.span.accepted).sum::<u64>(), 1);
        assert!(spans[0].begun_before > spans[1].begun_before);
    }
}
