//! `kill -9` of the gate under load, again and again.

use std::sync::atomic::Ordering;

use sluicegate::lab::inside;

use crate::counted::{assert_recorded_first, count, end};
use crate::crowd::Plant;
use crate::gate::until;
use crate::{number, say};

#[test]
fn what_moved_a_byte_upstream_has_its_open_through_every_kill() {
    inside::test("killed::what_moved_a_byte_upstream_has_its_open_through_every_kill", || {
        let kills = number("SLUICEGATE_TEST_KILLS", 4);
        let plant = Plant::up();
        let load = plant.load(u64::MAX, 32);
        for round in 0..kills {
            let daemon = plant.start();
            let seen = plant.seen.count.load(Ordering::Relaxed);
            // A different moment in each round.
            let wanted = seen + 5 + round * 7 % 150;
            until("flows", || (plant.seen.count.load(Ordering::Relaxed) >= wanted).then_some(()));
            daemon.kill_hard();
        }
        plant.stop();
        load.join();
        end(&plant.start());
        let counted = count(&plant);
        assert_recorded_first(&plant, &counted);
        let crashed =
            counted.ends.get(&(2, "unknown_crash".to_owned())).copied().unwrap_or_default();
        assert!(counted.system["boot"] == kills + 1 && crashed > 0, "{counted:?}");
        say(&format!(
            "{kills} kills: {} Opens, {crashed} ends found at starts, {:?}",
            counted.opens, counted.system
        ));
    });
}
