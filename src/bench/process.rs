//! What a process costs: CPU time and resident memory, all threads together.

use std::{fs, mem::MaybeUninit, time::Duration};

use anyhow::{Context, ensure};

/// The server's processes.
pub struct Server {
    pids: Vec<i32>,
}

/// CPU time and memory at a moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    pub cpu: Duration,
    pub resident_bytes: u64,
}

impl Server {
    /// Takes the processes to be measured; none is fine, then nothing is measured.
    ///
    /// # Errors
    /// One of them does not run.
    pub fn new(pids: &[i32]) -> anyhow::Result<Option<Self>> {
        let server = Self { pids: pids.to_owned() };
        server.usage()?;
        Ok((!pids.is_empty()).then_some(server))
    }

    /// What all of them used so far, ended threads included.
    ///
    /// # Errors
    /// One of them has ended.
    pub fn usage(&self) -> anyhow::Result<Usage> {
        let mut sum = Usage::default();
        for &pid in &self.pids {
            let usage = cpu_time(pid)
                .and_then(|cpu| Ok(Usage { cpu, resident_bytes: resident_bytes(pid)? }))
                .with_context(|| format!("process {pid} (--pid) can not be measured: does it run?"))?;
            sum.cpu += usage.cpu;
            sum.resident_bytes += usage.resident_bytes;
        }
        Ok(sum)
    }
}

/// CPU time of a process to the nanosecond; `/proc` would give it in ticks of 10 ms.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the standard library has no clock of another process")]
fn cpu_time(pid: libc::pid_t) -> anyhow::Result<Duration> {
    let mut clock = 0;
    // SAFETY: writes one clock id, to which the pointer is valid.
    let error = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
    ensure!(error == 0, std::io::Error::from_raw_os_error(error));
    clock_time(clock)
}

#[cfg(not(target_os = "linux"))]
fn cpu_time(_: libc::pid_t) -> anyhow::Result<Duration> {
    anyhow::bail!("other processes are measured on Linux only")
}

/// CPU time of this process.
pub fn own_cpu_time() -> anyhow::Result<Duration> {
    clock_time(libc::CLOCK_PROCESS_CPUTIME_ID)
}

#[expect(unsafe_code, reason = "the standard library has no clock of another process")]
fn clock_time(clock: libc::clockid_t) -> anyhow::Result<Duration> {
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: fills one `timespec`, to which the pointer is valid, or returns an error.
    let time = unsafe {
        ensure!(libc::clock_gettime(clock, time.as_mut_ptr()) == 0, std::io::Error::last_os_error());
        time.assume_init()
    };
    Ok(Duration::new(time.tv_sec.try_into()?, time.tv_nsec.try_into()?))
}

fn resident_bytes(pid: i32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_this_process() {
        let server = Server::new(&[std::process::id() as i32]).unwrap().unwrap();
        let before = server.usage().unwrap();
        assert!(before.resident_bytes > 100_000);
        let mut spins = 0_u64;
        while server.usage().unwrap().cpu < before.cpu + Duration::from_millis(2) {
            spins += 1;
        }
        assert!(spins > 0);
        assert!(own_cpu_time().unwrap() >= before.cpu);
        assert!(Server::new(&[i32::MAX]).is_err());
        assert!(Server::new(&[]).unwrap().is_none());
    }
}
