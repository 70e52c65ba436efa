//! Retries failures that may pass.

use std::time::Duration;

use crate::output::Output;
use crate::trouble::Trouble;

/// Runs `act` again, up to `retries` times, while that can help. The pauses grow, and differ
/// between clients: a fleet that was turned away together must not come back together.
pub(crate) async fn retrying<T>(
    retries: u32,
    output: &Output,
    mut act: impl AsyncFnMut() -> Result<T, Trouble>,
) -> Result<T, Trouble> {
    let mut pause = FIRST_PAUSE;
    for _ in 0..retries {
        match act().await {
            Err(trouble) if trouble.may_pass => {
                let pause_now = pause.mul_f64(0.5 + fastrand::f64());
                let text = trouble.text;
                let seconds = pause_now.as_secs_f64();
                output.warning(&format!("{text}; trying again in {seconds:.1} s"));
                tokio::time::sleep(pause_now).await;
                pause = (pause * PAUSE_GROWTH).min(LONGEST_PAUSE);
            }
            result => return result,
        }
    }
    act().await
}

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const PAUSE_GROWTH: u32 = 3;
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
