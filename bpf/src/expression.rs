//! Filter expressions, pcap-filter(7).
