//! Decides what a callback of the host may do to a request: hold it, let it go on, resume it, once, and nothing after its
//! end.
//!
//! The filter asks here at each callback and carries out what it is told; the host's calls stay its own.
//!
//! | callback | asked | then |
//! |---|---|---|
//! | request head | [`Callbacks::head`], or [`Callbacks::hold`] where it is too early to judge | judge, [`Callbacks::decided`] |
//! | what was too early for is there, or its time is over | [`Callbacks::head_settled`] | the same |
//! | answer to a callout | [`Callbacks::replied`] | bring the answer to what waited, [`Callbacks::decided`] |
//! | keys came, or their time is over | [`Callbacks::keys_settled`] | the same |
//! | request body, trailers | [`Callbacks::later`]; where the host fails, [`Callbacks::fail`] | |
//! | response head | [`Callbacks::response`] | edit it |
//! | tick: the token's end, its revocation | [`Callbacks::end`] | reset |
//! | the stream is closed | [`Callbacks::closed`] | |

use std::mem;

/// Where one request stands. `E` waits for the broker's answer, `K` for keys, `A` for the response's head.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Callbacks<E, K, A>(State<E, K, A>);

/// Nothing goes upstream but in `Admitted` and `Passed`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum State<E, K, A> {
    /// Its head has not come.
    Fresh,
    /// Its head came and is held unjudged.
    Held,
    /// It is being judged, in the callback of its head or, where it is held, in a later one.
    Judging { held: bool },
    /// The broker is asked; the callout's number.
    Called(u32, E),
    /// Keys are being fetched.
    Waiting(K),
    /// It is on its way upstream.
    Admitted(A),
    /// Its response is on its way down.
    Passed,
    /// It was answered here, reset or closed.
    Ended,
}

/// What a judgement came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<E, K, A> {
    /// It goes upstream; its edits are made.
    Pass(A),
    /// It was answered here.
    Answered,
    /// The broker is asked, by the callout of this number.
    Called(u32, E),
    /// It waits for keys.
    Waiting(K),
}

/// What is done to the request now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// The callback returns that it goes on.
    Continue,
    /// The callback returns that it is held; where it returns nothing, nothing is done.
    Pause,
    /// It was held and goes on: the host is told so, by a call of its own.
    Resume,
}

/// How a request ends whose host fails it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It is answered with 503.
    Answer,
    /// It is too late for an answer: it is reset.
    Reset,
    /// It has ended already.
    Nothing,
}

impl<E, K, A> Default for Callbacks<E, K, A> {
    fn default() -> Self {
        Self(State::Fresh)
    }
}

impl<E, K, A> Callbacks<E, K, A> {
    /// The head came. Whether it is to be judged now; otherwise it is held.
    #[must_use]
    pub fn head(&mut self) -> bool {
        let is_first = matches!(self.0, State::Fresh);
        if is_first {
            self.0 = State::Judging { held: false };
        }
        is_first
    }

    /// The head came, and it is too early to judge it: it is held. Whether it is the first time that it comes.
    #[must_use]
    pub fn hold(&mut self) -> bool {
        let is_first = matches!(self.0, State::Fresh);
        if is_first {
            self.0 = State::Held;
        }
        is_first
    }

    /// It is not too early any more for a head that was held. Whether it is to be judged now.
    #[must_use]
    pub fn head_settled(&mut self) -> bool {
        let is_held = matches!(self.0, State::Held);
        if is_held {
            self.0 = State::Judging { held: true };
        }
        is_held
    }

    /// A callout was answered. What waited for it, to be judged now; `None` where the request waits for nothing, or for
    /// another callout.
    #[must_use]
    pub fn replied(&mut self, callout: u32) -> Option<E> {
        if !matches!(&self.0, State::Called(waited, _) if *waited == callout) {
            return None;
        }
        let State::Called(_, pending) = mem::replace(&mut self.0, State::Judging { held: true }) else {
            return None;
        };
        Some(pending)
    }

    /// The keys came, or their time is over. What waited for them, to be judged now.
    #[must_use]
    pub fn keys_settled(&mut self) -> Option<K> {
        if !matches!(self.0, State::Waiting(_)) {
            return None;
        }
        let State::Waiting(pending) = mem::replace(&mut self.0, State::Judging { held: true }) else {
            return None;
        };
        Some(pending)
    }

    /// A judgement came to its end, in the callback in which it began. One that nothing here began does nothing.
    pub fn decided(&mut self, outcome: Outcome<E, K, A>) -> Flow {
        let State::Judging { held } = self.0 else {
            return Flow::Pause;
        };
        let (state, flow) = match outcome {
            Outcome::Pass(admitted) if held => (State::Admitted(admitted), Flow::Resume),
            Outcome::Pass(admitted) => (State::Admitted(admitted), Flow::Continue),
            Outcome::Answered => (State::Ended, Flow::Pause),
            Outcome::Called(callout, pending) => (State::Called(callout, pending), Flow::Pause),
            Outcome::Waiting(pending) => (State::Waiting(pending), Flow::Pause),
        };
        self.0 = state;
        flow
    }

    /// What a body or trailer may do: go on only where the head went on. With `allow_on_headers_stop_iteration` they come
    /// while the head is held.
    pub const fn later(&self) -> Flow {
        match self.0 {
            State::Admitted(_) | State::Passed => Flow::Continue,
            State::Fresh
            | State::Held
            | State::Judging { .. }
            | State::Called(..)
            | State::Waiting(_)
            | State::Ended => Flow::Pause,
        }
    }

    /// The host did not do what it was asked, outside of a judgement. How the request ends by that, if it has not yet.
    #[must_use]
    pub fn fail(&mut self) -> Failure {
        match mem::replace(&mut self.0, State::Ended) {
            State::Fresh
            | State::Held
            | State::Judging { .. }
            | State::Called(..)
            | State::Waiting(_)
            | State::Admitted(_) => Failure::Answer,
            State::Passed => Failure::Reset,
            State::Ended => Failure::Nothing,
        }
    }

    /// The response's head came: what is needed to edit it, once. Answers of our own and those to requests that have ended
    /// are not edited.
    #[must_use]
    pub fn response(&mut self) -> Option<A> {
        if !matches!(self.0, State::Admitted(_)) {
            return None;
        }
        let State::Admitted(admitted) = mem::replace(&mut self.0, State::Passed) else {
            return None;
        };
        Some(admitted)
    }

    /// The time of what passed is over. Whether the stream is to be reset now.
    #[must_use]
    pub fn end(&mut self) -> bool {
        let is_open = matches!(self.0, State::Admitted(_) | State::Passed);
        if is_open {
            self.0 = State::Ended;
        }
        is_open
    }

    /// The host has closed the stream: whatever it waited for is dropped.
    pub fn closed(&mut self) {
        self.0 = State::Ended;
    }
}

#[cfg(test)]
mod tests;
