//! All trace events: numbers, names and how a decoder prints them. `{}` takes the next of an event's three words in
//! decimal, `{x}` in hexadecimal, `{rank}` as a lock's name.

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
    3 Task "task {} polled"
    4 TaskEnd "task {} leaves, ended {}"
    5 Preempt "task preempted"
    6 Resume "task goes on after {} ns"
    7 Slice "task has {} ns to itself"
    8 Sleep "sleeps"
    9 Wake "wakes, pending {x}"
    10 Raise "raises source {} of cpu {}"
    11 HandOver "cpu {} is sent {} packets, {} went"
    12 Publish "configuration {} published"
    13 Grace "nobody reads the configuration before {} any more"
    14 Broken "interface {} broke its protocol"
    15 Contended "{rank} taken after {} spins"
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
