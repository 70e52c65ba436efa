//! What happens when the user interrupts, or the machine is shut down.

use std::process::exit;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::output::Output;

/// Waits for a signal on a thread of its own, since libostree may have the main one; says what was
/// kept, and ends the program as a shell would have it. Nothing has to be tidied up: a push or pull
/// may end at any moment, and `ssh` ends when we do. A push has a moment to say goodbye.
pub(crate) fn watch(output: &Arc<Output>) {
    let output = Arc::clone(output);
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        // Without it the signal ends the program all the same.
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            let code = told_to_stop().await;
            output.interrupted();
            thread::sleep(FAREWELL);
            exit(code);
        });
    });
}

/// Waits for a signal to stop, and returns the exit code it leads to.
pub(crate) async fn told_to_stop() -> i32 {
    let signals = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    );
    let (Ok(mut interrupt), Ok(mut terminate)) = signals else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => INTERRUPTED,
        _ = terminate.recv() => TERMINATED,
    }
}

/// 128 and the number of the signal.
const INTERRUPTED: i32 = 130;
const TERMINATED: i32 = 143;
const FAREWELL: Duration = Duration::from_millis(200);
