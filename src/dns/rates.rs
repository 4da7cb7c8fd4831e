//! How many questions one device may ask.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// What devices have asked lately.
#[derive(Debug)]
pub(super) struct Rates {
    devices: HashMap<IpAddr, Bucket>,
    /// How many devices there may be before the silent ones are forgotten.
    sweep_at: usize,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    filled: Instant,
}

/// Whether one more question is within the rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    Within,
    Beyond,
}

impl Rates {
    pub(super) fn new() -> Self {
        Self { devices: HashMap::new(), sweep_at: MOST_DEVICES }
    }

    /// Takes in one question of a device.
    pub(super) fn ask(&mut self, device: IpAddr, per_second: u32, now: Instant) -> Pace {
        self.sweep(now);
        let rate = f64::from(per_second);
        let most = rate * BURST_SECONDS;
        let bucket = self.devices.entry(device).or_insert(Bucket { tokens: most, filled: now });
        let since = now.saturating_duration_since(bucket.filled).as_secs_f64();
        bucket.tokens = (bucket.tokens + since * rate).min(most);
        bucket.filled = now;
        if bucket.tokens < 1.0 {
            return Pace::Beyond;
        }
        bucket.tokens -= 1.0;
        Pace::Within
    }

    /// Forgets devices whose tokens are all back. The next sweep comes when there are twice as many as
    /// were kept, so that it costs each question the same.
    fn sweep(&mut self, now: Instant) {
        if self.devices.len() < self.sweep_at {
            return;
        }
        let full = Duration::from_secs_f64(BURST_SECONDS);
        self.devices.retain(|_, bucket| now.saturating_duration_since(bucket.filled) < full);
        self.sweep_at = MOST_DEVICES.max(self.devices.len().saturating_mul(2));
    }
}

/// How many seconds' worth of questions may come at once: a device that was switched on asks for
/// everything together.
const BURST_SECONDS: f64 = 4.0;
const MOST_DEVICES: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_device_has_its_own_rate_which_comes_back_with_time() {
        let mut rates = Rates::new();
        let now = Instant::now();
        let [one, other] = [7, 8].map(|last| IpAddr::from([10, 10, 3, last]));
        let asked = (0..50).filter(|_| rates.ask(one, 10, now) == Pace::Within).count();
        assert_eq!(asked, 40);
        assert_eq!(rates.ask(other, 10, now), Pace::Within);
        let later = now + Duration::from_secs(1);
        let asked = (0..50).filter(|_| rates.ask(one, 10, later) == Pace::Within).count();
        assert_eq!(asked, 10);
    }

    #[test]
    fn silent_devices_are_forgotten() {
        let mut rates = Rates::new();
        let now = Instant::now();
        for number in 0..65_536_u32 {
            rates.ask(IpAddr::from(number.to_be_bytes()), 10, now);
        }
        rates.ask([255; 4].into(), 10, now + Duration::from_secs(4));
        assert_eq!(rates.devices.len(), 1);
    }
}
