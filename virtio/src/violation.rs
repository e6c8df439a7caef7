//! How a device can break its protocol. Each way has a stable name.

weir_netif::violations! {
    /// A named breach of protocol; the device it came from is taken down.
    pub enum Violation {
        /// Not the device's doing: the router stopped it.
        Stopped = "stopped",
        /// The used index went further than there are buffers lent.
        UsedIndexRunaway = "used-index-runaway",
        /// The used index went backwards.
        UsedIndexBackwards = "used-index-backwards",
        /// A used id is not below the queue size.
        UsedIdOutOfRange = "used-id-out-of-range",
        /// A used id names no buffer that this queue has lent: never lent, already returned, or another queue's.
        UsedIdNotLent = "used-id-not-lent",
        /// A used length exceeds the buffer lent.
        UsedLengthBeyondBuffer = "used-length-beyond-buffer",
        /// A receive buffer came back with nothing in it.
        RxLengthZero = "rx-length-zero",
        /// A receive buffer came back with less than a virtio-net header.
        RxShorterThanHeader = "rx-shorter-than-header",
        /// A frame is longer than any IP packet with its Ethernet header.
        RxFrameTooLong = "rx-frame-too-long",
        /// A frame claims to lie in no buffer.
        RxNumBuffersZero = "rx-num-buffers-zero",
        /// A frame claims more buffers than the largest frame needs.
        RxNumBuffersAbsurd = "rx-num-buffers-absurd",
        /// A frame claims more buffers than the device returned along with it.
        RxNumBuffersBeyondUsed = "rx-num-buffers-beyond-used",
        /// Checksum flags without `VIRTIO_NET_F_GUEST_CSUM`.
        RxChecksumNotNegotiated = "rx-checksum-not-negotiated",
        /// The range to sum starts behind the headers' buffer.
        RxChecksumStartBeyondFrame = "rx-checksum-start-beyond-frame",
        /// The checksum field lies behind the headers' buffer.
        RxChecksumOffsetBeyondFrame = "rx-checksum-offset-beyond-frame",
        /// A segmentation type that the specification does not have.
        RxGsoUnknown = "rx-gso-unknown",
        /// A segmentation type that was not negotiated.
        RxGsoNotNegotiated = "rx-gso-not-negotiated",
        /// A super-packet to be cut into segments of no size.
        RxGsoSizeZero = "rx-gso-size-zero",
        /// A super-packet without a partial checksum.
        RxGsoWithoutChecksum = "rx-gso-without-checksum",
        /// The configuration's generation changed on every attempt to read it.
        ConfigNeverStable = "config-never-stable",
        /// The control queue did not answer in time.
        ControlTimeout = "control-timeout",
        /// The control queue's answer is neither OK nor an error.
        ControlAnswerUnknown = "control-answer-unknown",
        /// A disk did not answer a request in time.
        BlockTimeout = "block-timeout",
        /// A disk's answer is none that the specification has.
        BlockAnswerUnknown = "block-answer-unknown",
        /// The device asks for a reset.
        NeedsReset = "device-needs-reset",
        /// The device was reset behind the driver's back.
        ResetItself = "device-reset-itself",
        /// The device no longer answers: it was unplugged.
        Vanished = "device-vanished",
    }
}

/// Whether a device still works.
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
