//! All orders of callbacks up to a length, against what a host sees of one stream.

use std::collections::HashSet;

use super::*;

/// What waits carries a number, so that one that is brought back twice shows.
type Subject = Callbacks<u32, u32, u32>;

/// What a judgement comes to, before it has its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Verdict {
    Pass,
    Answer,
    Call,
    Wait,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Event {
    Head(Verdict),
    /// The head comes too early to be judged.
    EarlyHead,
    /// It is not too early any more.
    HeadSettled(Verdict),
    Body,
    Trailers {
        cleaned: bool,
    },
    /// The answer to the last callout.
    Reply(Verdict),
    /// The answer to an earlier callout.
    StaleReply(Verdict),
    Keys(Verdict),
    Response,
    Tick,
    Closed,
}

const VERDICTS: [Verdict; 4] = [Verdict::Pass, Verdict::Answer, Verdict::Call, Verdict::Wait];

fn events() -> Vec<Event> {
    let mut all = vec![
        Event::EarlyHead,
        Event::Body,
        Event::Response,
        Event::Tick,
        Event::Closed,
    ];
    all.extend([true, false].map(|cleaned| Event::Trailers { cleaned }));
    for verdict in VERDICTS {
        all.extend([
            Event::Head(verdict),
            Event::HeadSettled(verdict),
            Event::Reply(verdict),
            Event::StaleReply(verdict),
            Event::Keys(verdict),
        ]);
    }
    all
}

/// What a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Waits {
    Judgement,
    Call,
    Keys,
}

/// One stream as the host sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Host {
    head_came: bool,
    /// The head was let go upstream, by a return value or by resuming.
    went_on: bool,
    resumed: bool,
    waits: Option<Waits>,
    /// Callouts made so far.
    callouts: u32,
    answered: bool,
    reset: bool,
    closed: bool,
    response_began: bool,
}

impl Host {
    const fn is_over(&self) -> bool {
        self.answered || self.reset || self.closed
    }

    /// Runs a judgement as the filter does, and takes what comes of it.
    fn judge(&mut self, subject: &mut Subject, verdict: Verdict, is_head: bool) {
        assert!(!self.is_over() && !self.went_on, "judged after it was decided");
        self.waits = None;
        let flow = subject.decided(match verdict {
            Verdict::Pass => Outcome::Pass(7),
            Verdict::Answer => {
                self.answered = true;
                Outcome::Answered
            }
            Verdict::Call => {
                self.callouts = self.callouts.saturating_add(1);
                self.waits = Some(Waits::Call);
                Outcome::Called(self.callouts, self.callouts)
            }
            Verdict::Wait => {
                self.waits = Some(Waits::Keys);
                Outcome::Waiting(9)
            }
        });
        let passes = if is_head { Flow::Continue } else { Flow::Resume };
        assert_eq!(flow, if verdict == Verdict::Pass { passes } else { Flow::Pause });
        if flow == Flow::Resume {
            assert!(!self.resumed, "resumed twice");
            self.resumed = true;
        }
        self.went_on = flow != Flow::Pause;
    }

    /// One callback. Panics where the subject does what it must not.
    fn happen(&mut self, subject: &mut Subject, event: Event) {
        match event {
            Event::Head(verdict) => {
                let judged = subject.head();
                assert_eq!(judged, !self.head_came && !self.is_over());
                self.head_came = true;
                if judged {
                    self.judge(subject, verdict, true);
                }
            }
            Event::EarlyHead => {
                let held = subject.hold();
                assert_eq!(held, !self.head_came && !self.is_over());
                self.head_came = true;
                if held {
                    self.waits = Some(Waits::Judgement);
                }
            }
            Event::HeadSettled(verdict) => {
                let judged = subject.head_settled();
                assert_eq!(judged, self.waits == Some(Waits::Judgement) && !self.is_over());
                if judged {
                    self.judge(subject, verdict, false);
                }
            }
            Event::Body | Event::Trailers { cleaned: true } => {
                let goes_on = self.went_on && !self.is_over();
                assert_eq!(subject.later(), if goes_on { Flow::Continue } else { Flow::Pause });
            }
            Event::Trailers { cleaned: false } => match subject.fail() {
                Failure::Answer => {
                    assert!(!self.is_over() && !self.response_began, "answered twice, or too late");
                    self.answered = true;
                }
                Failure::Reset => {
                    assert!(!self.is_over() && self.response_began);
                    self.reset = true;
                }
                Failure::Nothing => assert!(self.is_over()),
            },
            Event::Reply(verdict) => {
                let pending = subject.replied(self.callouts);
                let is_awaited = self.waits == Some(Waits::Call) && !self.is_over();
                assert_eq!(pending, is_awaited.then_some(self.callouts));
                if pending.is_some() {
                    self.judge(subject, verdict, false);
                }
            }
            Event::StaleReply(_) => assert_eq!(subject.replied(self.callouts.wrapping_sub(1)), None),
            Event::Keys(verdict) => {
                let pending = subject.keys_settled();
                let is_awaited = self.waits == Some(Waits::Keys) && !self.is_over();
                assert_eq!(pending, is_awaited.then_some(9));
                if pending.is_some() {
                    self.judge(subject, verdict, false);
                }
            }
            Event::Response => {
                let edited = subject.response();
                let is_first = self.went_on && !self.is_over() && !self.response_began;
                assert_eq!(edited, is_first.then_some(7));
                self.response_began |= is_first;
            }
            Event::Tick => {
                let reset = subject.end();
                assert_eq!(reset, self.went_on && !self.is_over());
                self.reset |= reset;
            }
            Event::Closed => {
                subject.closed();
                self.closed = true;
            }
        }
    }
}

/// Everything that can follow within so many callbacks. Where two orders led to the same state of both sides, what
/// follows is the same and is tried once.
fn explore(length: usize) -> HashSet<(Subject, Host)> {
    let events = events();
    let mut reached = HashSet::from([(Subject::default(), Host::default())]);
    let mut edge: Vec<_> = reached.iter().cloned().collect();
    for _ in 0..length {
        let mut next = Vec::new();
        for (subject, host) in edge {
            for event in &events {
                let (mut subject, mut host) = (subject.clone(), host.clone());
                host.happen(&mut subject, *event);
                if reached.insert((subject.clone(), host.clone())) {
                    next.push((subject, host));
                }
            }
        }
        edge = next;
    }
    reached
}

#[test]
fn in_all_orders_of_callbacks_it_goes_on_once_is_answered_once_and_does_nothing_after_its_end() {
    let reached = explore(8);
    let any = |holds: fn(&Host) -> bool| reached.iter().any(|(_, host)| holds(host));
    assert!(any(|host| host.resumed && host.response_began && host.reset));
    assert!(any(|host| host.callouts == 8 && host.waits.is_some()));
    assert!(any(|host| host.callouts == 7 && host.resumed));
    assert!(any(|host| host.waits == Some(Waits::Judgement) && host.answered));
    assert!(any(|host| host.answered && host.response_began == host.resumed));
}

#[test]
fn a_judgement_that_nothing_began_does_nothing() {
    for (subject, host) in explore(8) {
        let mut after = subject.clone();
        assert_eq!(after.decided(Outcome::Pass(8)), Flow::Pause, "{host:?}");
        assert_eq!(after, subject);
    }
}

#[test]
fn whoever_fails_within_a_judgement_answers_once() {
    let mut subject = Subject::default();
    assert!(subject.head());
    assert_eq!(subject.later(), Flow::Pause);
    assert_eq!(subject.fail(), Failure::Answer);
    assert_eq!(subject.fail(), Failure::Nothing);
    assert_eq!(subject.decided(Outcome::Pass(7)), Flow::Pause);
}
