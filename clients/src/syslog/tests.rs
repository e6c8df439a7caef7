use super::*;
use alloc::string::ToString;
use proptest::prelude::*;

#[test]
fn a_message_has_the_forms_parts() {
    assert_eq!(
        message(Severity::Warning, Some(1_795_284_000_000_042), "edge1", "wan: down\nnow"),
        "<28>1 2026-11-21T18:00:00.000042Z edge1 weir - - - wan: down now"
    );
    assert_eq!(message(Severity::Informational, None, "", "x"), "<30>1 - - weir - - - x");
    let long = message(Severity::Error, None, "edge1", &"\u{e4}".repeat(1000));
    assert!((LONGEST - 1..=LONGEST).contains(&long.len()));
}

#[test]
fn days_are_the_calendars() {
    for (seconds, wanted) in [
        (0, "1970-01-01T00:00:00.000000Z"),
        (951_782_399, "2000-02-28T23:59:59.000000Z"),
        (951_782_400, "2000-02-29T00:00:00.000000Z"),
        (951_868_800, "2000-03-01T00:00:00.000000Z"),
        (4_107_542_400, "2100-03-01T00:00:00.000000Z"),
        (1_798_761_599, "2026-12-31T23:59:59.000000Z"),
    ] {
        assert_eq!(Time(seconds * 1_000_000).to_string(), wanted);
    }
}

proptest! {
    #[test]
    fn each_day_follows_the_one_before(day in 0_u64..1_000_000) {
        let text = |day: u64| Time(day * 86_400_000_000).to_string();
        let (today, tomorrow) = (text(day), text(day + 1));
        let part = |text: &str, range: core::ops::Range<usize>| text[range].parse::<u32>().unwrap();
        if today.len() == tomorrow.len() && today.len() == 27 {
            let next = part(&tomorrow, 8..10) == part(&today, 8..10) + 1 && today[..8] == tomorrow[..8];
            let first = part(&tomorrow, 8..10) == 1 && part(&today, 8..10) >= 28 && today[..8] != tomorrow[..8];
            prop_assert!(next || first, "{today} {tomorrow}");
        }
    }
}
