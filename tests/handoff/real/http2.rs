//! Clients over HTTP/2.

use super::handoffs::hand_over_under;
use crate::support::{place::Place, real::programs};

/// It acknowledges the empty table and goes on indexing, so it is asked to connect again, and sends again what was refused.
#[test]
fn go_loses_no_request_though_it_connects_again() {
    let handed_over = hand_over_under("", |addr| vec![programs::go(&Place::default(), addr, 1)]);
    handed_over.assert_none_lost();
    handed_over.assert_each_once();
}
