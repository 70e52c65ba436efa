//! Prints the current text now and then, for whoever reads a log.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A thread that prints until this is dropped. What was set last is printed, also if it is the same
/// as before: whoever looks sees that the program lives.
pub(super) struct Lines {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    text: String,
    has_ended: bool,
}

impl Lines {
    pub(super) fn start(every: Duration, mut print: impl FnMut(&str) + Send + 'static) -> Self {
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            let mut state = own.state.lock().unwrap_or_else(PoisonError::into_inner);
            while !state.has_ended {
                let waited = own
                    .ended
                    .wait_timeout_while(state, every, |state| !state.has_ended);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
                if !state.has_ended && !state.text.is_empty() {
                    print(&state.text);
                }
            }
        });
        Self {
            shared,
            thread: Some(thread),
        }
    }

    pub(super) fn set(&self, text: String) {
        self.lock().text = text;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        let state = self.shared.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.lock().has_ended = true;
        self.shared.ended.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn the_last_text_is_printed_until_the_end_and_never_after() {
        let (say, said) = channel();
        let lines = Lines::start(Duration::from_millis(1), move |text| {
            let _ = say.send(text.to_owned());
        });
        // Nothing is set yet, so nothing is printed.
        lines.set("one".to_owned());
        assert_eq!(said.recv().unwrap(), "one");
        assert_eq!(said.recv().unwrap(), "one");
        lines.set("two".to_owned());
        assert!(said.iter().any(|text| text == "two"));
        drop(lines);
        assert!(said.iter().all(|text| text == "two"));
    }
}
