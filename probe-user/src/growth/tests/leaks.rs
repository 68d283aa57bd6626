//! Resources that leak until their ceiling is reached.

use super::{
    replay::{DAY, HOUR, Random, Resource},
    services::office_hours,
};

/// What a leak looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Even,
    /// In steps, 16 to 32 of them, at most an hour apart.
    Steps,
    /// With noise of 1 %.
    Noise,
    /// With garbage collections on top, by 10 %, 16 to 32 of them, at most two hours apart.
    Collector,
    /// With office hours on top, by 20 %, which the day before has shown.
    Office,
}

/// What leaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    Memory,
    /// Whole numbers, of 1024.
    Descriptors,
}

pub struct Leak {
    pub resource: Resource,
    /// When it begins: in the second or third day.
    pub onset: f64,
    /// It begins with the process.
    pub with_process: bool,
}

/// A leak by `rate` of the ceiling an hour. Every other one begins with a process.
pub fn draw(rate: f64, shape: Shape, of: Of, with_process: bool, random: &mut Random) -> Leak {
    let (low, onset) = (random.between(0.1, 0.4), DAY + random.between(1.0, 14.0) * HOUR);
    let whole = (1.0 - low) / rate * HOUR;
    let step = (whole / random.between(16.0, 32.0)).min(HOUR);
    let (period, phase) = ((whole / random.between(16.0, 32.0)).min(2.0 * HOUR), random.unit());
    let model = move |time: f64, _: f64, random: &mut Random| {
        let into = (time - onset).max(0.0);
        let value = match shape {
            Shape::Even => low + rate * into / HOUR,
            Shape::Steps => low + rate * (into / step).floor() * step / HOUR,
            Shape::Noise => low + rate * into / HOUR + 0.01 * random.normal(),
            Shape::Collector => low + rate * into / HOUR + 0.1 * (time / period + phase).fract(),
            Shape::Office => low + rate * into / HOUR + 0.2 * office_hours(time, 3.0),
        };
        match of {
            Of::Memory => value,
            Of::Descriptors => (value * 1024.0).floor() / 1024.0,
        }
    };
    let restarts = if with_process { vec![onset] } else { Vec::new() };
    Leak { resource: Resource { restarts, model: Box::new(model) }, onset, with_process }
}
