//! What a random flow will do, all of it from one number.

use crate::sockets::Shape;

/// A flow from beginning to end.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) device: Side,
    pub(crate) endpoint: Side,
    /// Which of the thread's pools carries it.
    pub(crate) pool: usize,
    /// The relay is dropped after so many turns of the thread.
    pub(crate) dropped_after: Option<usize>,
}

/// What one end of a flow will do.
#[derive(Clone, Debug)]
pub(crate) struct Side {
    /// Where its bytes begin among the random ones.
    pub(crate) start: usize,
    /// How many it sends.
    pub(crate) size: usize,
    /// The most it writes at once.
    pub(crate) segment: usize,
    /// The most it reads at once.
    pub(crate) piece: usize,
    /// The most turns of the thread it pauses before it writes or reads.
    pub(crate) pause: usize,
    /// When it writes.
    pub(crate) pace: Pace,
    pub(crate) end: End,
    pub(crate) shape: Shape,
    /// Decides segments and pauses.
    pub(crate) dice: Dice,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// As soon as it can.
    Eager,
    /// A part of its bytes for each part that it has read of the other side's.
    Answering,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// FIN after the last byte.
    Fin,
    /// FIN after the last byte and the other side's end.
    FinAfterPeer,
    /// RST after so many bytes written.
    ResetAfterWriting(usize),
    /// RST after so many bytes read, whatever waits unread.
    ResetAfterReading(usize),
    /// FIN after the last byte, and RST so many turns later.
    FinThenReset(usize),
}

impl Plan {
    /// The flow with this number in the run of this seed, over one of `pools` pools.
    pub(crate) fn new(seed: u64, number: u64, pools: usize) -> Self {
        let mut dice = Dice(seed ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93));
        let (mut device, mut endpoint) = (Side::random(&mut dice), Side::random(&mut dice));
        match dice.below(12) {
            0 => device.end = End::ResetAfterWriting(dice.below(device.size + 1)),
            1 => endpoint.end = End::ResetAfterWriting(dice.below(endpoint.size + 1)),
            2 => device.end = End::ResetAfterReading(dice.below(endpoint.size + 1)),
            3 => endpoint.end = End::ResetAfterReading(dice.below(device.size + 1)),
            4 => device.end = End::FinAfterPeer,
            5 => endpoint.end = End::FinAfterPeer,
            6 if dice.below(2) == 0 => {
                device.end = End::FinThenReset(dice.below(30));
                endpoint.end = End::FinThenReset(dice.below(30));
            }
            6 => {
                device.end = End::ResetAfterWriting(dice.below(device.size + 1));
                endpoint.end = End::ResetAfterWriting(dice.below(endpoint.size + 1));
            }
            7 => device.end = End::FinThenReset(dice.below(30)),
            8 => endpoint.end = End::FinThenReset(dice.below(30)),
            _ => {}
        }
        // If both answered, each would wait for the other.
        match dice.below(6) {
            0 => device.pace = Pace::Answering,
            1 => endpoint.pace = Pace::Answering,
            _ => {}
        }
        let dropped_after = (dice.below(25) == 0).then(|| dice.below(200));
        Self { device, endpoint, pool: dice.below(pools), dropped_after }
    }
}

impl Side {
    fn random(dice: &mut Dice) -> Self {
        let most = match dice.below(100) {
            0..5 => 1,
            5..40 => 300,
            40..70 => 20_000,
            70..92 => 200_000,
            92..98 => 1 << 20,
            _ => LONGEST + 1,
        };
        let size = dice.below(most);
        let receive = [None, None, None, Some(4096), Some(32 * 1024)][dice.below(5)];
        let segment = [None, None, Some(536), Some(1400)][dice.below(4)];
        let mut side = Self {
            start: dice.below(STOCK - LONGEST),
            size,
            segment: 1 + [99, 1400, 20_000, 300_000][dice.below(4)],
            piece: 1 + [20, 500, 5_000, 100_000][dice.below(4)],
            pause: [0, 0, 1, 3][dice.below(4)],
            pace: Pace::Eager,
            end: End::Fin,
            shape: Shape { receive, segment },
            dice: Dice(dice.next()),
        };
        // Dribbles are for the short ones, or the run would not end.
        side.segment = side.segment.max(size / 300);
        side
    }

    /// The bytes that it sends.
    pub(crate) fn bytes<'a>(&self, stock: &'a [u8]) -> &'a [u8] {
        &stock[self.start..self.start + self.size]
    }
}

/// SplitMix64.
#[derive(Clone, Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % (bound as u64)).unwrap()
    }
}

/// Random bytes that all flows cut theirs from: making and keeping some for each flow would take
/// longer than moving them. A lost, doubled or swapped piece is found as surely.
pub(crate) fn stock(seed: u64) -> Vec<u8> {
    let mut dice = Dice(seed);
    (0..STOCK / 8).flat_map(|_| dice.next().to_le_bytes()).collect()
}

const LONGEST: usize = 4 << 20;
const STOCK: usize = LONGEST + (1 << 20);
