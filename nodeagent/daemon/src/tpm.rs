//! The TPM, used by one thread: it opens the device for a burst of jobs and closes it when it has been idle for a moment.
//!
//! A TPM takes one command at a time and some ways to it (a software TPM's socket) one client at a time, so whoever wants it stands
//! in line here. Must never keep it open while nothing is asked: the owner's own tools want it too.

use std::{
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use rempart_backend::ResidentKey;
use rempart_device::{TlsKey, Tpm, TpmError, TpmOptions};
use tokio::runtime::{Handle, RuntimeFlavor};

/// How long it stays open after the last job.
const IDLE: Duration = Duration::from_secs(1);
/// What one job may take, waiting in line included: some TPMs need most of a minute to make an RSA key.
const JOB: Duration = Duration::from_secs(120);
/// What a signature in the middle of a TLS handshake may take.
const SIGNATURE: Duration = Duration::from_secs(30);
/// Jobs in line; each waits for a task of ours, of which there are a few.
const LINE: usize = 64;

/// Why a job was not done.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The TPM, or the way to it.
    #[error(transparent)]
    Tpm(#[from] TpmError),
    /// No answer.
    #[error("the TPM did not answer within {} s; if it stays so, reboot", .0.as_secs())]
    Slow(Duration),
    /// The thread ended: a defect of this program.
    #[error("the thread that uses the TPM has ended; restart rempartd and report this")]
    ThreadGone,
}

type Job = Box<dyn FnOnce(&mut Slot) + Send>;

/// The line before the TPM.
#[derive(Clone, Debug)]
pub struct TpmLine {
    jobs: mpsc::SyncSender<Job>,
}

/// The TPM, open or not.
struct Slot {
    options: TpmOptions,
    open: Option<Tpm>,
}

impl TpmLine {
    /// Starts the thread; opens nothing yet. It ends with the last of the line's clones.
    pub fn start(options: TpmOptions) -> std::io::Result<Self> {
        let (jobs, line) = mpsc::sync_channel(LINE);
        let slot = Slot { options, open: None };
        thread::Builder::new()
            .name("tpm".into())
            .stack_size(crate::STACK)
            .spawn(move || slot.serve(&line))?;
        Ok(Self { jobs })
    }

    /// Does `work` when it is its turn.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Tpm) -> Result<T, TpmError> + Send + 'static,
    ) -> Result<T, JobError> {
        Ok(self.wait_for(|slot| slot.use_for(work)).await??)
    }

    /// As [`TpmLine::run`], for work that opens the TPM by itself: it is closed before.
    pub async fn run_alone<T: Send + 'static>(
        &self,
        work: impl FnOnce(&TpmOptions) -> T + Send + 'static,
    ) -> Result<T, JobError> {
        let alone = |slot: &mut Slot| {
            slot.open = None;
            work(&slot.options)
        };
        self.wait_for(alone).await
    }

    async fn wait_for<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Slot) -> T + Send + 'static,
    ) -> Result<T, JobError> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let job: Job = Box::new(move |slot| drop(answer.send(work(slot))));
        // The line is full when the TPM hangs: trying is enough, each of us stands in it once.
        self.queue(job)?;
        match tokio::time::timeout(JOB, answered).await {
            Ok(answer) => answer.map_err(|_| JobError::ThreadGone),
            Err(_) => Err(JobError::Slow(JOB)),
        }
    }

    /// As [`TpmLine::run`], for callers that cannot wait asynchronously and not as long.
    pub fn run_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Tpm) -> Result<T, TpmError> + Send + 'static,
    ) -> Result<T, JobError> {
        let (answer, answered) = mpsc::sync_channel(1);
        let job: Job = Box::new(move |slot| drop(answer.send(slot.use_for(work))));
        self.queue(job)?;
        match answered.recv_timeout(SIGNATURE) {
            Ok(answer) => Ok(answer?),
            Err(mpsc::RecvTimeoutError::Timeout) => Err(JobError::Slow(SIGNATURE)),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(JobError::ThreadGone),
        }
    }

    fn queue(&self, job: Job) -> Result<(), JobError> {
        self.jobs.try_send(job).map_err(|refused| match refused {
            mpsc::TrySendError::Full(_) => JobError::Slow(JOB),
            mpsc::TrySendError::Disconnected(_) => JobError::ThreadGone,
        })
    }
}

impl Slot {
    fn serve(mut self, line: &mpsc::Receiver<Job>) {
        loop {
            let job = match &self.open {
                None => line.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
                Some(_) => line.recv_timeout(IDLE),
            };
            match job {
                Ok(job) => job(&mut self),
                Err(mpsc::RecvTimeoutError::Timeout) => self.open = None,
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn use_for<T>(&mut self, work: impl FnOnce(&mut Tpm) -> Result<T, TpmError>) -> Result<T, TpmError> {
        let tpm = match &mut self.open {
            Some(tpm) => tpm,
            closed => closed.insert(Tpm::open(&self.options)?),
        };
        let done = work(tpm);
        // Whatever went wrong may have left the connection behind in a state of its own.
        if done.is_err() {
            self.open = None;
        }
        done
    }
}

/// The TLS key in the TPM, as rustls uses it.
#[derive(Debug)]
pub struct ResidentTlsKey {
    tpm: TpmLine,
    public: TlsKey,
}

impl ResidentTlsKey {
    /// The key whose public part is `public`.
    pub fn new(tpm: TpmLine, public: TlsKey) -> Arc<Self> {
        Arc::new(Self { tpm, public })
    }
}

impl ResidentKey for ResidentTlsKey {
    fn spki(&self) -> &[u8] {
        &self.public.spki
    }

    fn sign(&self, digest: &[u8; 32]) -> Result<Vec<u8>, String> {
        let digest = *digest;
        let sign = || {
            self.tpm
                .run_blocking(move |tpm| tpm.sign_tls(&digest))
                .map_err(|error| error.to_string())
        };
        // A handshake signs in the middle of a task: the other tasks of this thread must not wait for the TPM.
        match Handle::try_current() {
            Ok(handle) if handle.runtime_flavor() == RuntimeFlavor::MultiThread => tokio::task::block_in_place(sign),
            _ => sign(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_that_does_not_move_is_told_and_not_waited_for() {
        let (jobs, _line) = mpsc::sync_channel(1);
        let stuck = TpmLine { jobs };
        let waits = stuck.queue(Box::new(|_| ()));
        assert!(waits.is_ok());
        let refused = stuck.run(|_| Ok(())).await;
        assert!(matches!(refused, Err(JobError::Slow(_))));
    }

    #[tokio::test]
    async fn a_tpm_that_cannot_be_opened_is_told_to_each_who_asks() {
        let line = TpmLine::start(TpmOptions::new("swtpm:host=127.0.0.1,port=1")).expect("a thread");
        for _ in 0..2 {
            let refused = line.run(|_| Ok(())).await;
            assert!(
                matches!(refused, Err(JobError::Tpm(TpmError::Open { .. }))),
                "{refused:?}"
            );
        }
        assert!(matches!(line.run_blocking(|_| Ok(())), Err(JobError::Tpm(_))));
    }
}
