//! Processes that never outlive the test that started them.

use std::ffi::OsStr;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// The path of a built peer.
///
/// # Errors
/// When `DROVER_PEERS` is not set or the program is not there.
pub fn program(name: &str) -> Result<PathBuf> {
    let folder = std::env::var_os("DROVER_PEERS")
        .context("DROVER_PEERS is not set: run `cargo xtask ci`, or set it to what `cargo xtask peers` prints")?;
    let path = Path::new(&folder).join(name);
    if !path.exists() {
        bail!("{} is not there: run `cargo xtask peers`", path.display());
    }
    Ok(path)
}

/// A running program; ends when dropped, and when the test process dies.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program that writes what it says to `folder/NAME.log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start<S: AsRef<OsStr>>(
        name: &str,
        program: &Path,
        args: impl IntoIterator<Item = S>,
        folder: &Path,
    ) -> Result<Self> {
        Self::start_in(name, program, args, &[], folder)
    }

    /// The same with further variables in its environment.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_in<S: AsRef<OsStr>>(
        name: &str,
        program: &Path,
        args: impl IntoIterator<Item = S>,
        env: &[(&str, String)],
        folder: &Path,
    ) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let file = File::create(&log)?;
        let mut command = dying_with_us(program);
        command
            .args(args)
            .envs(env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        Self::spawn(name, command, log)
    }

    /// Starts a program to talk with: only what it says on its standard error goes to `folder/NAME.log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn converse<S: AsRef<OsStr>>(
        name: &str,
        program: &Path,
        args: impl IntoIterator<Item = S>,
        env: &[(&str, &str)],
        folder: &Path,
    ) -> Result<(Self, ChildStdin, ChildStdout)> {
        let log = folder.join(format!("{name}.log"));
        let mut command = dying_with_us(program);
        command
            .args(args)
            .envs(env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?);
        let mut process = Self::spawn(name, command, log)?;
        let pipes = process.child.stdin.take().zip(process.child.stdout.take());
        let (input, output) = pipes.context("a program without its pipes")?;
        Ok((process, input, output))
    }

    fn spawn(name: &str, command: Command, log: PathBuf) -> Result<Self> {
        let child = spawn(command).with_context(|| format!("failed to start {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
        })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `ready` says so.
    ///
    /// # Errors
    /// With the last lines of the log, when the program ends or takes too long.
    pub async fn wait_for(
        &mut self,
        limit: Duration,
        mut ready: impl AsyncFnMut() -> bool,
    ) -> Result<()> {
        let start = Instant::now();
        while !ready().await {
            if let Some(status) = self.child.try_wait()? {
                bail!(
                    "{} ended with {status} while it started:\n{}",
                    self.name,
                    self.tail()
                );
            }
            if start.elapsed() > limit {
                bail!(
                    "{} is not ready after {limit:?}:\n{}",
                    self.name,
                    self.tail()
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Everything that it wrote.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The last lines that it wrote.
    pub fn tail(&self) -> String {
        let text = self.log();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) {
        // Ended already: nothing to kill, and nothing to wait for a second time.
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// Asks it to end, and waits for its exit code.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn terminate(&mut self, limit: Duration) -> Result<Option<i32>> {
        Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status()?;
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.code());
            }
            if start.elapsed() > limit {
                bail!(
                    "{} did not end within {limit:?}:\n{}",
                    self.name,
                    self.tail()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The kernel ends the program with the thread that started it, which is a thread that lives as long as this process.
fn dying_with_us(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

type Order = (Command, mpsc::Sender<std::io::Result<Child>>);

fn spawn(command: Command) -> Result<Child> {
    static KEEPER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let keeper = KEEPER.get_or_init(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in inbox {
                // The one who asked is gone: dropping the child is all that is left.
                answer.send(command.spawn()).ok();
            }
        });
        orders
    });
    let (answer, child) = mpsc::channel();
    keeper.send((command, answer))?;
    Ok(child.recv()??)
}

/// Ports for peers: below those that the system gives to outgoing connections, one of which could take a port that is free now.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A port that was free a moment ago and that this process hands out once, for programs that cannot be told to pick one.
///
/// # Errors
/// When no port of the range can be bound.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let count = u32::from(PORTS.end - PORTS.start);
    // Processes that run at the same time begin at different places.
    let begin = std::process::id().wrapping_mul(211);
    for _ in 0..count {
        let offset = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % count;
        let port = PORTS.start + u16::try_from(offset)?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port of {PORTS:?} is free on 127.0.0.1")
}
