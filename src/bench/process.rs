//! What a process costs: CPU time and resident memory, all threads together.

use std::{collections::HashSet, fs, mem::MaybeUninit, net::SocketAddr, time::Duration};

use anyhow::{Context, ensure};

/// The processes of the relay that is measured.
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
    /// Takes the processes to be measured; where none is named, those of this machine that listen there. None is
    /// fine, then nothing is measured.
    ///
    /// # Errors
    /// One of them does not run.
    pub fn find(named: &[i32], relay: SocketAddr) -> anyhow::Result<Option<Self>> {
        if !named.is_empty() {
            return Self::new(named);
        }
        let found = if relay.ip().is_loopback() { listeners(relay.port()) } else { Vec::new() };
        for pid in &found {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            eprintln!(
                "measuring process {pid} ({}), which listens there; --pid names another",
                name.trim_end()
            );
        }
        Self::new(&found)
    }

    /// Measures these processes.
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

/// The processes that listen on a port of this machine, as far as this user may see them.
fn listeners(port: u16) -> Vec<i32> {
    let tables =
        ["tcp", "tcp6"].map(|name| fs::read_to_string(format!("/proc/net/{name}")).unwrap_or_default());
    let sockets: HashSet<String> =
        tables.iter().flat_map(|table| table.lines()).filter_map(|line| listening(line, port)).collect();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        descriptors
            .filter_map(|descriptor| fs::read_link(descriptor.path()).ok())
            .any(|link| link.to_str().is_some_and(|link| sockets.contains(link)))
    })
    .collect()
}

/// The socket that a line of `/proc/net/tcp` is about, if it listens on the port.
fn listening(line: &str, port: u16) -> Option<String> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [_, local, _, LISTEN, _, _, _, _, _, inode, ..] = fields[..] else { return None };
    let (_, hex) = local.rsplit_once(':')?;
    (u16::from_str_radix(hex, 16) == Ok(port)).then(|| format!("socket:[{inode}]"))
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
    fn finds_who_listens() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(listeners(address.port()), [std::process::id() as i32]);
        assert!(Server::find(&[], address).unwrap().is_some());
        assert!(Server::find(&[], "192.0.2.1:1".parse().unwrap()).unwrap().is_none());
    }

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
