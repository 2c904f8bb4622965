//! A balancer in front of several servers, as a Service of Kubernetes is: each connection goes to the next server that answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A balancer; ends when dropped.
#[derive(Debug)]
pub struct Balancer {
    address: SocketAddr,
    carried: Arc<[AtomicUsize]>,
    task: JoinHandle<()>,
}

impl Balancer {
    /// Listens in front of servers on ports of 127.0.0.1, which need not be up.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start(servers: &[u16]) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let carried: Arc<[AtomicUsize]> = servers.iter().map(|_| AtomicUsize::new(0)).collect();
        let (counts, servers) = (carried.clone(), servers.to_vec());
        let task = tokio::spawn(async move {
            let mut turn = 0;
            while let Ok((client, _)) = listener.accept().await {
                turn += 1;
                tokio::spawn(carry(client, servers.clone(), turn, counts.clone()));
            }
        });
        Ok(Self {
            address,
            carried,
            task,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections each server has had.
    pub fn carried(&self) -> Vec<usize> {
        let counts = self.carried.iter();
        counts.map(|count| count.load(Ordering::Relaxed)).collect()
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The client finds out itself when nobody answers: its connection is closed.
async fn carry(mut client: TcpStream, servers: Vec<u16>, turn: usize, counts: Arc<[AtomicUsize]>) {
    for step in 0..servers.len() {
        let chosen = (turn + step) % servers.len();
        if let Ok(mut server) = TcpStream::connect(("127.0.0.1", servers[chosen])).await {
            counts[chosen].fetch_add(1, Ordering::Relaxed);
            // Either side may cut it off: that is what a balancer is there for.
            copy_bidirectional(&mut client, &mut server).await.ok();
            return;
        }
    }
}
