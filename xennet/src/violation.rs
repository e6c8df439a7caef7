//! How a backend can break its protocol. Each way has a stable name.

weir_netif::violations! {
    /// A named breach of protocol; the vif it came by is taken down.
    pub enum Violation {
        /// Not the backend's doing: the router stopped the vif.
        Stopped = "stopped",
        /// `rsp_prod` claims responses to requests that were never sent.
        ResponseIndexRunaway = "ring-response-index-runaway",
        /// `rsp_prod` went backwards.
        ResponseIndexBackwards = "ring-response-index-backwards",
        /// A transmit response's id was never given out by its queue: another queue's or another life's.
        TxIdOutOfRange = "tx-id-out-of-range",
        /// A transmit response's id is of this queue but not outstanding: answered already.
        TxIdNotOutstanding = "tx-id-not-outstanding",
        /// A transmit response's status is none that there is.
        TxStatusUnknown = "tx-status-unknown",
        /// More null responses than extra-info requests were sent.
        TxNullUnasked = "tx-null-unasked",
        /// A receive response's id was never given out by its queue: another queue's or another life's.
        RxIdOutOfRange = "rx-id-out-of-range",
        /// A receive response's id is of this queue but not the one its slot was requested with: replayed or out of order.
        RxIdNotOfSlot = "rx-id-not-of-slot",
        /// A receive response's status is an error that there is not.
        RxStatusNegative = "rx-status-negative",
        /// A receive response with nothing in it.
        RxLengthZero = "rx-length-zero",
        /// A receive response's data starts behind its page.
        RxOffsetBeyondPage = "rx-offset-beyond-page",
        /// A receive response's data ends behind its page.
        RxLengthBeyondPage = "rx-length-beyond-page",
        /// A frame is longer than any IP packet with its Ethernet header.
        RxFrameTooLong = "rx-frame-too-long",
        /// A frame takes more slots than the protocol allows.
        RxTooManySlots = "rx-too-many-slots",
        /// A frame's next slot was announced and is not there.
        RxMoreMissing = "rx-more-data-missing",
        /// A blank checksum that was not negotiated.
        RxChecksumNotNegotiated = "rx-checksum-not-negotiated",
        /// Extra info was announced and is not there.
        RxExtraMissing = "rx-extra-missing",
        /// The chain of extra infos does not end.
        RxExtraEndless = "rx-extra-endless",
        /// Extra info of a type that there is not.
        RxExtraUnknown = "rx-extra-unknown",
        /// Extra info that was not negotiated.
        RxExtraNotNegotiated = "rx-extra-not-negotiated",
        /// A segmentation type that there is not.
        RxGsoUnknown = "rx-gso-unknown",
        /// A segmentation type that was not negotiated.
        RxGsoNotNegotiated = "rx-gso-not-negotiated",
        /// A super-packet to be cut into segments of no size.
        RxGsoSizeZero = "rx-gso-size-zero",
        /// A super-packet to be cut into segments longer than itself.
        RxGsoBeyondFrame = "rx-gso-beyond-frame",
        /// A hash of a type, or by an algorithm, that there is not.
        RxHashUnknown = "rx-hash-unknown",
        /// The old way to announce super-packets, which nobody asked for.
        RxGsoPrefix = "rx-gso-prefix",
        /// The backend closes the vif, or is gone.
        BackendClosed = "backend-closed",
        /// The backend went back to an earlier state, or to one that there is not.
        BackendState = "backend-state-out-of-order",
        /// The store does not say what the backend's state is.
        StoreSilent = "store-silent",
    }
}

/// Whether a vif still works.
pub(crate) type Health = weir_netif::Health<Violation>;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_violation_keeps_a_name_of_its_own() {
        let mut names = HashSet::new();
        for &violation in Violation::ALL {
            let health = Health::default();
            assert_eq!(health.fail(violation).reason, violation.name());
            assert_eq!(health.check().unwrap_err().fault.reason, violation.name());
            assert!(names.insert(violation.name()), "{violation} names two");
        }
    }
}
