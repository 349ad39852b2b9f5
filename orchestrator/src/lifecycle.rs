//! Starting and stopping: first softly (no new work, what runs may end), then hard.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long running work may take to end after the first signal.
pub const GRACE: Duration = Duration::from_secs(8);

/// What tells the tasks of a process to stop, and waits for them.
#[derive(Debug, Clone, Default)]
pub struct Lifecycle {
    /// Cancelled when the process is asked to stop: take no new work, end streams.
    pub soft: CancellationToken,
    /// Cancelled when the grace is over: drop everything.
    pub hard: CancellationToken,
    tracker: TaskTracker,
}

impl Lifecycle {
    /// A lifecycle that has just begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `task` until it ends or the grace is over.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let hard = self.hard.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                () = task => {}
                () = hard.cancelled() => {}
            }
        });
    }

    /// Asks everything to stop and waits: at most [`GRACE`] softly, then hard.
    pub async fn stop(&self) {
        self.soft.cancel();
        self.tracker.close();
        if tokio::time::timeout(GRACE, self.tracker.wait()).await.is_err() {
            tracing::warn!("some work did not end in time and is cut off");
        }
        self.hard.cancel();
        self.tracker.wait().await;
    }

    /// Completes at the first SIGINT or SIGTERM.
    ///
    /// # Errors
    /// Where signals can't be listened to.
    pub async fn signalled() -> std::io::Result<()> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        Ok(())
    }
}
