//! From numbers to places, and where the ticks are.

/// How numbers lie along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// From 0 on, in equal steps.
    Linear,
    /// Each step ten times the one before; what is not above 0 has no place.
    Log,
}

/// A scale with its ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    scale: Scale,
    low: f64,
    high: f64,
}

/// About so many ticks on a linear axis.
const TICKS: f64 = 5.0;

impl Span {
    /// Ends that hold all `values` and lie on ticks.
    pub(super) fn around(scale: Scale, values: impl Iterator<Item = f64>) -> Self {
        let is_placed = |value: &f64| value.is_finite() && (scale == Scale::Linear || *value > 0.0);
        let (low, high) = values
            .filter(is_placed)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                (low.min(value), high.max(value))
            });
        let (low, high) = if low > high { (1.0, 1.0) } else { (low, high) };
        match scale {
            Scale::Linear => {
                let high = if high > 0.0 { high } else { 1.0 };
                let step = step(high);
                Self {
                    scale,
                    low: 0.0,
                    high: (high / step).ceil() * step,
                }
            }
            Scale::Log => {
                let (from, to) = (low.log10().floor(), high.log10().ceil());
                Self {
                    scale,
                    low: 10f64.powf(from),
                    high: 10f64.powf(to.max(from + 1.0)),
                }
            }
        }
    }

    /// Where `value` lies, from 0 to 1; `None` if it has no place.
    pub(super) fn place(&self, value: f64) -> Option<f64> {
        let place = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => (value.log10() - self.low.log10()) / (self.high.log10() - self.low.log10()),
        };
        place.is_finite().then(|| place.clamp(0.0, 1.0))
    }

    /// Where the lines of the grid are.
    pub(super) fn ticks(&self) -> Vec<f64> {
        let (count, tick): (f64, Box<dyn Fn(f64) -> f64>) = match self.scale {
            Scale::Linear => {
                let step = step(self.high);
                ((self.high / step).round(), Box::new(move |place| place * step))
            }
            Scale::Log => {
                let low = self.low.log10().round();
                let decades = (self.high.log10() - low).round();
                (decades, Box::new(move |place| 10f64.powf(low + place)))
            }
        };
        (0..=count as u32).map(|place| tick(f64::from(place))).collect()
    }
}

/// A round step, 1, 2 or 5 times a power of ten, of which a few make up `high`.
fn step(high: f64) -> f64 {
    let rough = high / TICKS;
    let power = 10f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0];
    let fitting = steps
        .iter()
        .map(|step| step * power)
        .find(|step| *step >= rough * 0.999);
    fitting.unwrap_or(power * 10.0)
}
