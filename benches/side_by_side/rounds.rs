//! The order of measurements: A B C, A B C, so that what drifts on the machine drifts for all.

use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde::Serialize;

use crate::plan::{Kind, Subject, Variant, Workload, label};
use crate::sample::{self, Figures};
use crate::stage::{Stage, endpoint};
use crate::{Failure, Options, probe, report, targets};

/// What one measurement gave.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Record {
    /// How the wires were.
    pub(crate) variant: Variant,
    /// What the clients did.
    pub(crate) workload: Workload,
    /// What stood in the box.
    pub(crate) subject: Subject,
    /// In which round, from 1.
    pub(crate) round: u32,
    /// The figures, by name.
    pub(crate) figures: Figures,
}

/// Measures everything that is asked for. A measurement that fails is told and left out.
///
/// # Errors
/// When the lab cannot be built, or the file with the figures not be written.
pub(crate) fn run(options: &Options) -> Result<Vec<Record>, Failure> {
    let mut records = Vec::new();
    for variant in chosen(&options.variants) {
        let workloads: Vec<Workload> = chosen(&options.only)
            .into_iter()
            .filter(|workload| workload.depends_on_wires() || variant == Variant::GsoOn)
            .collect();
        if workloads.is_empty() {
            continue;
        }
        tell_noise();
        let mut stage = Stage::up(variant, &options.gate)?;
        stage.serve(&["load", "server", "--listen", &endpoint().to_string()])?;
        for workload in workloads {
            rounds(options, &stage, variant, workload, &mut records);
            // Now and not at the end, which may be an hour away.
            save(options, &records)?;
        }
    }
    Ok(records)
}

fn save(options: &Options, records: &[Record]) -> Result<(), Failure> {
    let document = report::document(options.rounds, records, &targets::judge(records));
    std::fs::write(&options.json, document)
        .map_err(|error| Failure::io(format!("write {}", options.json.display()), error))
}

/// Tells when others use the machine: ratios bear it, absolute figures do not.
fn tell_noise() {
    let before = probe::busy_seconds();
    std::thread::sleep(LISTENING);
    let busy = (probe::busy_seconds() - before) / LISTENING.as_secs_f64();
    if busy > NOISE {
        eprintln!("the machine is not quiet: {busy:.2} cores are busy before anything runs");
    }
}

fn rounds(
    options: &Options,
    stage: &Stage,
    variant: Variant,
    workload: Workload,
    records: &mut Vec<Record>,
) {
    let subjects: Vec<Subject> =
        chosen(&options.subjects).into_iter().filter(|subject| workload.suits(*subject)).collect();
    let long = matches!(workload.kind(), Kind::Idle | Kind::Storm);
    let rounds = if long { options.rounds.min(LONG_ROUNDS) } else { options.rounds };
    for round in 1..=rounds {
        for subject in &subjects {
            let began = Instant::now();
            let what = format!(
                "{} {} round {round}/{rounds} {}",
                label(variant),
                label(workload),
                label(*subject)
            );
            match sample::take(stage, *subject, workload, options.length()) {
                Ok(figures) => {
                    eprintln!(
                        "{what}: {:.1} s: {}",
                        began.elapsed().as_secs_f64(),
                        brief(&figures)
                    );
                    let subject = *subject;
                    records.push(Record { variant, workload, subject, round, figures });
                }
                Err(error) => eprintln!("{what}: FAILED: {error}"),
            }
        }
    }
}

fn brief(figures: &Figures) -> String {
    let figure = |(name, value): (&&str, &f64)| format!("{name} {value:.3}");
    figures.iter().map(figure).collect::<Vec<_>>().join(", ")
}

/// What was asked for; everything where nothing was.
fn chosen<T: ValueEnum + Copy>(asked: &[T]) -> Vec<T> {
    if asked.is_empty() { T::value_variants().to_vec() } else { asked.to_vec() }
}

const LISTENING: Duration = Duration::from_millis(500);
/// Cores.
const NOISE: f64 = 0.1;
/// Memory hardly differs from round to round, and these take long.
const LONG_ROUNDS: u32 = 3;
