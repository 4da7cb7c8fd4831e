//! How much of the box one device, and all together, may take.
//!
//! Shared by all data threads, because the flows of one device are spread over them; touched when a
//! flow begins, has sent its hello, and ends. The last part of the total is kept for devices that
//! have few flows, so that no device can starve the others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::Limits as Settings;
use crate::reason::Reason;

/// The limits of a site and what is taken of them.
#[derive(Debug)]
pub struct Limits {
    /// Flows that the process has descriptors for.
    capacity: u32,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: Settings,
    devices: HashMap<IpAddr, Taken>,
    /// How many devices there may be before those that take nothing are forgotten.
    sweep_at: usize,
    total: Taken,
    /// What moments count from.
    began: Instant,
}

/// What one device, or all together, have taken.
#[derive(Clone, Copy, Debug)]
struct Taken {
    flows: u32,
    hellos: u32,
    /// New flows that may still begin at once.
    tokens: f32,
    filled: Moment,
}

/// A time in milliseconds modulo 2^32: a quarter of an [`Instant`], and there is one for each device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Moment(u32);

impl Moment {
    fn new(now: Instant, began: Instant) -> Self {
        let millis = now.saturating_duration_since(began).as_millis() % (1 << 32);
        Self(u32::try_from(millis).unwrap_or_default())
    }

    /// Of times more than 49 days apart only the rest: a device then waits for its tokens once more.
    fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.wrapping_sub(earlier.0).into())
    }
}

/// A flow's share; gives everything back when it is dropped.
#[derive(Debug)]
pub(super) struct Admitted {
    limits: Arc<Limits>,
    device: IpAddr,
    waits_for_hello: Waits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    Yes,
    No,
}

/// A flow too many, and which limit it broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TooMany {
    pub(super) reason: Reason,
    pub(super) detail: String,
}

impl Limits {
    /// Limits for a process that has descriptors for so many flows.
    pub fn new(settings: Settings, capacity: usize) -> Arc<Self> {
        let capacity = u32::try_from(capacity).unwrap_or(u32::MAX);
        let inner = Inner {
            settings,
            devices: HashMap::new(),
            sweep_at: MOST_DEVICES,
            total: Taken::nothing(settings.new_flows, Moment(0)),
            began: Instant::now(),
        };
        Arc::new(Self { capacity, inner: Mutex::new(inner) })
    }

    /// Takes in a new configuration; what is taken stays taken.
    pub fn set(&self, settings: Settings) {
        self.inner().settings = settings;
    }

    /// Takes a flow's share, or says which limit it would break.
    pub(super) fn admit(
        self: &Arc<Self>,
        device: IpAddr,
        now: Instant,
    ) -> Result<Admitted, TooMany> {
        let mut inner = self.inner();
        let now = Moment::new(now, inner.began);
        inner.sweep(now);
        let Inner { settings, devices, total, .. } = &mut *inner;
        let fresh = Taken::nothing(settings.device_new_flows, now);
        let own = devices.entry(device).or_insert(fresh);
        own.refill(settings.device_new_flows, now);
        total.refill(settings.new_flows, now);
        let most = settings.flows.unwrap_or(self.capacity).min(self.capacity);
        check(settings, own, total, most)?;
        for taken in [own, total] {
            taken.flows += 1;
            taken.hellos += 1;
            taken.tokens -= 1.0;
        }
        drop(inner);
        Ok(Admitted { limits: Arc::clone(self), device, waits_for_hello: Waits::Yes })
    }

    /// How many devices are counted now.
    pub fn devices(&self) -> usize {
        self.inner().devices.len()
    }

    /// Flows that there may be, and that there are.
    pub fn flows(&self) -> (u32, u32) {
        let inner = self.inner();
        (inner.settings.flows.unwrap_or(self.capacity).min(self.capacity), inner.total.flows)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_back(&self, device: IpAddr, share: impl Fn(&mut Taken)) {
        let mut inner = self.inner();
        let Inner { devices, total, .. } = &mut *inner;
        devices.get_mut(&device).into_iter().chain([total]).for_each(share);
    }
}

impl Inner {
    /// Forgets devices that have no flows and whose tokens are all back. The next sweep comes when
    /// there are twice as many as were kept, so that it costs each flow the same however many there
    /// are.
    fn sweep(&mut self, now: Moment) {
        if self.devices.len() < self.sweep_at {
            return;
        }
        let full = Duration::from_secs_f32(BURST_SECONDS);
        self.devices.retain(|_, taken| taken.flows > 0 || now.since(taken.filled) < full);
        self.sweep_at = MOST_DEVICES.max(self.devices.len().saturating_mul(2));
    }
}

impl Admitted {
    /// The flow has sent its hello, or will not any more.
    pub(super) fn heard(&mut self) {
        if self.waits_for_hello == Waits::Yes {
            self.waits_for_hello = Waits::No;
            self.limits
                .give_back(self.device, |taken| taken.hellos = taken.hellos.saturating_sub(1));
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.heard();
        self.limits.give_back(self.device, |taken| taken.flows = taken.flows.saturating_sub(1));
    }
}

impl Taken {
    fn nothing(rate: u32, now: Moment) -> Self {
        Self { flows: 0, hellos: 0, tokens: burst(rate), filled: now }
    }

    fn refill(&mut self, rate: u32, now: Moment) {
        let since = now.since(self.filled).as_secs_f32();
        self.tokens = (self.tokens + since / BURST_SECONDS * burst(rate)).min(burst(rate));
        self.filled = now;
    }
}

/// New flows that may come at once.
fn burst(rate: u32) -> f32 {
    rate as f32 * BURST_SECONDS
}

fn check(settings: &Settings, own: &Taken, total: &Taken, most: u32) -> Result<(), TooMany> {
    let device = |limit: &str, value: u32| TooMany {
        reason: Reason::LimitDeviceFlows,
        detail: format!("[limits] {limit} = {value} is reached by this device"),
    };
    let all = |limit: &str, value: u32| TooMany {
        reason: Reason::LimitFlows,
        detail: format!("{limit} = {value} is reached by all devices together"),
    };
    if own.flows >= settings.device_flows {
        return Err(device("device-flows", settings.device_flows));
    }
    if own.hellos >= settings.device_hellos {
        return Err(device("device-hellos", settings.device_hellos));
    }
    if own.tokens < 1.0 {
        return Err(device("device-new-flows", settings.device_new_flows));
    }
    // The last tenth is for devices with few flows.
    let reserve = if own.flows < FEW { 0 } else { most / RESERVED_PART };
    if total.flows >= most.saturating_sub(reserve) {
        return Err(all("the limit of flows", most.saturating_sub(reserve)));
    }
    let reserve = if own.hellos < FEW { 0 } else { settings.hellos / RESERVED_PART };
    if total.hellos >= settings.hellos.saturating_sub(reserve) {
        return Err(all("[limits] hellos", settings.hellos));
    }
    if total.tokens < 1.0 {
        return Err(all("[limits] new-flows", settings.new_flows));
    }
    Ok(())
}

/// How many seconds' worth of new flows may come at once: a device that was switched on opens all
/// its connections together.
const BURST_SECONDS: f32 = 4.0;
/// A device with fewer flows than this may use the reserve.
const FEW: u32 = 8;
const RESERVED_PART: u32 = 10;
/// Devices that are counted before those that take nothing are forgotten.
const MOST_DEVICES: usize = 65_536;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const fn device(last: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 10, 0, last))
    }

    fn limits(settings: Settings) -> Arc<Limits> {
        Limits::new(settings, 100)
    }

    fn detail(refused: Result<Admitted, TooMany>) -> String {
        refused.expect_err("one flow too many").detail
    }

    #[test]
    fn each_limit_of_a_device_is_named_and_given_back() {
        let settings = Settings { device_flows: 2, ..Settings::default() };
        let limits = limits(settings);
        let now = Instant::now();
        let first = limits.admit(device(1), now).expect("the first flow");
        let _second = limits.admit(device(1), now).expect("the second flow");
        assert!(detail(limits.admit(device(1), now)).contains("device-flows = 2"));
        let _other = limits.admit(device(2), now).expect("another device has its own limit");
        drop(first);
        limits.admit(device(1), now).expect("the place that was given back");
    }

    #[test]
    fn silent_flows_are_limited_until_they_are_heard() {
        let settings = Settings { device_hellos: 1, ..Settings::default() };
        let limits = limits(settings);
        let now = Instant::now();
        let mut first = limits.admit(device(1), now).expect("the first flow");
        assert!(detail(limits.admit(device(1), now)).contains("device-hellos = 1"));
        first.heard();
        first.heard();
        let _second = limits.admit(device(1), now).expect("the first has spoken");
        assert!(detail(limits.admit(device(1), now)).contains("device-hellos = 1"));
    }

    #[test]
    fn new_flows_per_second_fill_up_with_time() {
        let settings = Settings { device_new_flows: 1, ..Settings::default() };
        let limits = limits(settings);
        let now = Instant::now();
        for _ in 0..4 {
            drop(limits.admit(device(1), now).expect("four seconds' worth at once"));
        }
        assert!(detail(limits.admit(device(1), now)).contains("device-new-flows = 1"));
        let later = now + Duration::from_secs(1);
        drop(limits.admit(device(1), later).expect("one second later"));
        assert!(detail(limits.admit(device(1), later)).contains("device-new-flows = 1"));
    }

    #[test]
    fn a_greedy_device_cannot_take_the_last_places() {
        let settings = Settings { flows: Some(50), device_hellos: 100, ..Settings::default() };
        let limits = limits(settings);
        let now = Instant::now();
        let mut greedy = Vec::new();
        while let Ok(admitted) = limits.admit(device(1), now) {
            greedy.push(admitted);
        }
        assert_eq!(greedy.len(), 45, "the last tenth stays free");
        let modest: Vec<_> = (0..5).map(|_| limits.admit(device(2), now)).collect();
        assert!(modest.iter().all(Result::is_ok), "another device gets in");
        assert!(detail(limits.admit(device(3), now)).contains("limit of flows = 50"));
    }

    #[test]
    fn many_devices_cost_no_more_than_few_and_the_silent_ones_are_forgotten() {
        let settings = Settings { new_flows: 1 << 20, hellos: 1 << 20, ..Settings::default() };
        let limits = Limits::new(settings, 1 << 20);
        let now = Instant::now();
        let address = |number: u32| IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number));
        let most = u32::try_from(MOST_DEVICES).expect("a small number");
        let mut live: Vec<_> =
            (0..most).map(|number| limits.admit(address(number), now).expect("room")).collect();
        // All are busy: the one that finds that out is the only one that looks at all of them.
        live.push(limits.admit(address(most), now).expect("room"));
        assert_eq!(limits.inner().sweep_at, 2 * MOST_DEVICES);
        live.truncate(10);
        for number in most + 1..2 * most {
            drop(limits.admit(address(number), now).expect("room"));
        }
        // None may come back for more before its tokens have.
        drop(limits.admit(address(2 * most), now).expect("room"));
        assert_eq!(limits.devices(), 2 * MOST_DEVICES + 1);
        let later = now + Duration::from_secs(4);
        for number in 0..=2 * most {
            drop(limits.admit(address(3 * most + number), later).expect("room"));
        }
        let inner = limits.inner();
        let first = Moment::new(now, inner.began);
        let left = inner.devices.values().filter(|taken| taken.filled == first).count();
        assert_eq!(left, 10, "only those with flows are left of the first");
    }
}
