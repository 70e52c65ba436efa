//! Handles interruption by the user, and shutdown of the machine.

use std::process::exit;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::output::Output;

/// Waits for a signal on a thread of its own, since reading files may block the main one. Then it
/// tells the user which objects are kept, and ends the program with the exit code that a shell
/// expects. Nothing needs tidying up: a push or pull may end at any moment, and `ssh` ends with
/// this process. A push gets a moment to say goodbye.
pub(crate) fn watch(output: &Arc<Output>) {
    let output = Arc::clone(output);
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        // Without the runtime, the signal ends the program all the same.
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            let code = told_to_stop().await;
            output.interrupted();
            thread::sleep(FAREWELL);
            exit(code);
        });
    });
}

/// Waits for a signal to stop, and returns its exit code.
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

/// 128 plus the number of the signal.
const INTERRUPTED: i32 = 130;
const TERMINATED: i32 = 143;
const FAREWELL: Duration = Duration::from_millis(200);
