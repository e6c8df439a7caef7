//! Bytes as a time server's answer.

use weir_clients::ntp::{Reply, Server, parse, select};

/// One run: one answer after the other, 48 bytes each, to a server's questions.
pub fn run(data: &[u8]) {
    let mut server = Server::new(|| 7, 0);
    for (n, answer) in data.chunks(48).take(16).enumerate() {
        let now_ns = server.deadline_ms().min(1 << 40) * 1_000_000;
        let _ = parse(answer, 7, 0, now_ns);
        let _ = server.poll(now_ns);
        let mut answer = answer.to_vec();
        if let Some(origin) = answer.get_mut(24..32) {
            origin.copy_from_slice(&7_u64.to_be_bytes());
        }
        if let Some(Reply::Sample(sample)) = server.input(&answer, now_ns + n as u64) {
            assert!(sample.error_ns < 4_000_000_000, "{sample:?}");
            assert_eq!(select(&[Some(sample)]), Some(0));
        }
    }
}
