//! What resources of services do that do not leak.

use std::f64::consts::TAU;

use super::replay::{DAY, HOUR, MINUTE, Model, Random, Resource};

/// A kind of normal behaviour; each seed draws another one of it.
pub struct Kind {
    pub name: &'static str,
    pub draw: fn(&mut Random) -> Resource,
}

/// Those that the constants of the series were chosen with.
#[rustfmt::skip] // A table reads best as one.
pub const NORMAL: [Kind; 20] = [
    Kind { name: "a level of 20–90 %, noise of 1 %",                       draw: level },
    Kind { name: "garbage collections every 20–60 s, by 10–40 %",          draw: |random| collector(random, 20.0, MINUTE) },
    Kind { name: "garbage collections every 1–5 min, by 10–40 %",          draw: |random| collector(random, MINUTE, 5.0 * MINUTE) },
    Kind { name: "garbage collections every 5–20 min, by 10–40 %",         draw: |random| collector(random, 5.0 * MINUTE, 20.0 * MINUTE) },
    Kind { name: "garbage collections every 20–60 min, by 10–40 %",        draw: |random| collector(random, 20.0 * MINUTE, HOUR) },
    Kind { name: "garbage collections every 1–4 h, by 10–40 %",            draw: |random| collector(random, HOUR, 4.0 * HOUR) },
    Kind { name: "a cache that fills to 60–85 % within 1–3 h",             draw: |random| cache(random, 0.3 * HOUR, HOUR) },
    Kind { name: "a cache that fills to 60–85 % within 3–15 h",            draw: |random| cache(random, HOUR, 5.0 * HOUR) },
    Kind { name: "a cache that fills evenly for 0.5–6 h and stops at 25–40 %", draw: even_cache },
    Kind { name: "daily load, a sine between 10–40 % and 50–80 %",         draw: sine },
    Kind { name: "office hours: up by 20–40 % and down within 2–4 h",      draw: office_memory },
    Kind { name: "a connection pool that breathes",                        draw: pool },
    Kind { name: "connections by office hours, with bursts",               draw: office_connections },
    Kind { name: "a buffer that each log rotation empties, every 0.5–2 h", draw: rotation },
    Kind { name: "JIT compilation for 10–60 min, then 40–60 %",            draw: warm_up },
    Kind { name: "five deploys in two days, a cache fills after each",     draw: deploys },
    Kind { name: "a batch job of an hour a day, up by 30–55 % within 5–30 min", draw: batch },
    Kind { name: "three steps up by 5–20 % that stay",                     draw: steps },
    Kind { name: "a growth of 0.1–0.5 % an hour",                          draw: harmless_growth },
    Kind { name: "slow noise of 5 %, over 20 min",                         draw: slow_noise },
];

/// Those that no constant was chosen with.
#[rustfmt::skip]
pub const UNSEEN: [Kind; 5] = [
    Kind { name: "bursts at random that decay within 10–60 min",           draw: bursts },
    Kind { name: "a cache that is flushed every 4–8 h",                    draw: flushed_cache },
    Kind { name: "an hourly fork that copies pages for 3–10 min",          draw: fork },
    Kind { name: "tables that double three times",                         draw: doubling },
    Kind { name: "a random walk between 30 and 70 %",                      draw: random_walk },
];

fn lasting(model: impl FnMut(f64, f64, &mut Random) -> f64 + 'static) -> Resource {
    Resource { restarts: Vec::new(), model: Box::new(model) }
}

/// What fills to 1 ever more slowly, from the time that two thirds of it take.
fn filled(age: f64, time: f64) -> f64 {
    1.0 - (-age / time).exp()
}

/// From 0 at night to 1 by day, within `hours` around 9:00 and around 18:30.
pub fn office_hours(time: f64, hours: f64) -> f64 {
    let step = |x: f64| 1.0 / (1.0 + (-6.0 * x / hours).exp());
    let hour = time / HOUR % 24.0;
    step(hour - 9.0) * step(18.5 - hour)
}

fn level(random: &mut Random) -> Resource {
    let level = random.between(0.2, 0.9);
    lasting(move |_, _, random| level + 0.01 * random.normal())
}

fn collector(random: &mut Random, least: f64, most: f64) -> Resource {
    let (period, low, height) =
        (random.between(least, most), random.between(0.15, 0.4), random.between(0.1, 0.4));
    let (mut begin, mut length, mut top) = (0.0, period, height);
    lasting(move |time, _, random| {
        if time >= begin + length {
            begin = time;
            length = period * random.between(0.8, 1.2);
            top = height * random.between(0.8, 1.2);
        }
        low + top * (time - begin) / length + 0.003 * random.normal()
    })
}

fn cache(random: &mut Random, least: f64, most: f64) -> Resource {
    let (low, high, time) =
        (random.between(0.05, 0.2), random.between(0.6, 0.85), random.between(least, most));
    lasting(move |_, age, random| low + (high - low) * filled(age, time) + 0.005 * random.normal())
}

fn even_cache(random: &mut Random) -> Resource {
    let (low, high, time) =
        (random.between(0.05, 0.2), random.between(0.25, 0.4), random.between(0.5, 6.0) * HOUR);
    lasting(move |_, age, random| low + (high - low) * (age / time).min(1.0) + 0.005 * random.normal())
}

fn sine(random: &mut Random) -> Resource {
    let (middle, height, phase) =
        (random.between(0.4, 0.5), random.between(0.1, 0.3), random.between(0.0, DAY));
    lasting(move |time, _, random| {
        middle + height * ((time + phase) / DAY * TAU).sin() + 0.02 * random.normal()
    })
}

fn office_memory(random: &mut Random) -> Resource {
    let (low, height, hours) =
        (random.between(0.15, 0.3), random.between(0.2, 0.4), random.between(2.0, 4.0));
    lasting(move |time, _, random| low + height * office_hours(time, hours) + 0.02 * random.normal())
}

fn pool(random: &mut Random) -> Resource {
    let (low, height, mut now) = (random.between(0.2, 0.4), random.between(0.006, 0.015), 0.0_f64);
    lasting(move |_, _, random| {
        now = now * 0.995 + height * random.normal();
        low + now.clamp(-0.2, 0.5)
    })
}

fn office_connections(random: &mut Random) -> Resource {
    let (low, height, hours) =
        (random.between(0.1, 0.2), random.between(0.2, 0.35), random.between(2.0, 4.0));
    lasting(move |time, _, random| {
        let load = office_hours(time, hours);
        low + height * load + 0.05 * load * random.normal().abs()
    })
}

fn rotation(random: &mut Random) -> Resource {
    let (low, height, period) =
        (random.between(0.2, 0.4), random.between(0.05, 0.3), random.between(0.5, 2.0) * HOUR);
    lasting(move |time, _, random| low + height * (time / period).fract() + 0.005 * random.normal())
}

fn warm_up(random: &mut Random) -> Resource {
    let (low, high, time) =
        (random.between(0.1, 0.2), random.between(0.4, 0.6), random.between(5.0, 20.0) * MINUTE);
    lasting(move |_, age, random| low + (high - low) * filled(age, time) + 0.02 * random.normal())
}

fn deploys(random: &mut Random) -> Resource {
    let (low, high, time) =
        (random.between(0.1, 0.2), random.between(0.5, 0.7), random.between(0.2, 1.0) * HOUR);
    let restarts = (0..5).map(|_| random.between(HOUR, 2.0 * DAY - HOUR)).collect();
    let model: Model =
        Box::new(move |_, age, random| low + (high - low) * filled(age, time) + 0.01 * random.normal());
    Resource { restarts, model }
}

fn batch(random: &mut Random) -> Resource {
    let (low, height) = (random.between(0.2, 0.3), random.between(0.3, 0.55));
    let (begin, ramp) = (random.between(0.0, DAY), random.between(5.0, 30.0) * MINUTE);
    lasting(move |time, _, random| {
        let into = (time - begin).rem_euclid(DAY);
        let load = (into / ramp).min(1.0) - ((into - HOUR).max(0.0) / ramp).min(1.0);
        low + height * load + 0.01 * random.normal()
    })
}

fn steps(random: &mut Random) -> Resource {
    let low = random.between(0.1, 0.2);
    let steps: Vec<(f64, f64)> =
        (0..3).map(|_| (random.between(0.0, 2.0 * DAY), random.between(0.05, 0.2))).collect();
    lasting(move |time, _, random| {
        let up: f64 = steps.iter().filter(|(at, _)| *at < time).map(|(_, by)| by).sum();
        low + up + 0.01 * random.normal()
    })
}

fn harmless_growth(random: &mut Random) -> Resource {
    let (low, rate) = (random.between(0.1, 0.4), random.between(0.001, 0.005));
    lasting(move |time, _, random| low + rate * time / HOUR + 0.01 * random.normal())
}

/// Noise whose values are alike for twenty minutes (a process of Ornstein and Uhlenbeck).
fn slow_noise(random: &mut Random) -> Resource {
    let (level, mut now, keeps) = (random.between(0.3, 0.5), 0.0, (-5.0_f64 / 1200.0).exp());
    lasting(move |_, _, random| {
        now = now * keeps + 0.05 * (1.0 - keeps * keeps).sqrt() * random.normal();
        level + now
    })
}

fn bursts(random: &mut Random) -> Resource {
    let (low, height) = (random.between(0.2, 0.4), random.between(0.05, 0.15));
    let (time, mut now) = (random.between(5.0, 30.0) * MINUTE, 0.0_f64);
    lasting(move |_, _, random| {
        now *= (-5.0 / time).exp();
        if random.unit() < 5.0 / (30.0 * MINUTE) {
            now += height * random.between(0.5, 1.5);
        }
        low + now.min(0.55) + 0.005 * random.normal()
    })
}

fn flushed_cache(random: &mut Random) -> Resource {
    let (low, high) = (random.between(0.1, 0.2), random.between(0.5, 0.8));
    let (time, period) = (random.between(0.2, 0.6) * HOUR, random.between(4.0, 8.0) * HOUR);
    lasting(move |now, _, random| low + (high - low) * filled(now % period, time) + 0.01 * random.normal())
}

fn fork(random: &mut Random) -> Resource {
    let (low, height, ramp) =
        (random.between(0.3, 0.45), random.between(0.1, 0.35), random.between(3.0, 10.0) * MINUTE);
    lasting(move |time, _, random| {
        let into = time % HOUR;
        low + if into < ramp { height * into / ramp } else { 0.0 } + 0.01 * random.normal()
    })
}

fn doubling(random: &mut Random) -> Resource {
    let low = random.between(0.03, 0.06);
    let times = [0.5, 2.0, 8.0].map(|hours| random.between(0.2, 2.0) * hours * HOUR);
    lasting(move |_, age, random| {
        let doubled = times.iter().filter(|at| **at < age).fold(low, |size, _| 2.0 * size);
        0.1 + doubled + 0.005 * random.normal()
    })
}

fn random_walk(random: &mut Random) -> Resource {
    let (step, mut now) = (random.between(0.0008, 0.002), 0.0_f64);
    lasting(move |_, _, random| {
        now += step * random.normal();
        if now.abs() > 0.2 {
            now = now.signum() * 0.4 - now;
        }
        0.5 + now
    })
}
