//! All trace events: numbers, names and how a decoder prints them. `{}` takes the next of an event's three words in
//! decimal, `{x}` in hexadecimal.

macro_rules! events {
    ($($number:literal $name:ident $format:literal)+) => {
        /// What a trace record tells. Numbers are never given to another event.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u32)]
        pub enum Event {
            $(#[doc = concat!("`", $format, "`")] $name = $number,)+
        }

        impl Event {
            /// Every event, by number.
            pub const ALL: &'static [Event] = &[$(Event::$name),+];

            /// The event of that number.
            pub fn numbered(number: u32) -> Option<Event> {
                match number {
                    $($number => Some(Event::$name),)+
                    _ => None,
                }
            }

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self { $(Event::$name => stringify!($name),)+ }
            }

            /// How it is printed.
            pub const fn format(self) -> &'static str {
                match self { $(Event::$name => $format,)+ }
            }
        }
    };
}

events! {
    1 Softint "source {} begins"
    2 SoftintEnd "source {} ends, more {}"
    3 Task "task turn"
    4 Preempted "task preempted at {x}"
    5 Sleep "sleeps until {} ns"
    6 Wake "wakes, pending {x}"
    7 Raise "raises source {} of cpu {}, interrupt {}"
    8 Timer "timer set to {} ns"
    9 Receive "interface {} gave {} packets, more {}"
    10 Transmit "interface {} took {} packets, left {}"
    11 Drop "interface {} dropped {} packets, reason {}"
    12 HandOff "cpu {} is sent {} packets, {} fit"
    13 Publish "published {x}, epoch {}"
    14 Reclaim "freed {x} after {} ticks"
    15 Contended "rank {} taken after {} spins"
    16 MailboxFull "mailbox of cpu {} is full"
    17 Fault "interface {} broke its protocol, reason {}"
    18 Link "interface {} has carrier {}"
    19 Interrupt "vector {} interrupts {x}"
    20 Exception "exception {} at {x}, code {x}"
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn numbers_lead_back_and_formats_take_at_most_three_words() {
        for &event in Event::ALL {
            assert_eq!(Event::numbered(event as u32), Some(event));
            assert!(event.format().matches('{').count() <= 3, "{}", event.name());
        }
        assert_eq!(Event::numbered(0), None);
    }
}
