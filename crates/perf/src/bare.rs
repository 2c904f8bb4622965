//! A session on a link and nothing else: no handle, no watch, no supervision.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Result, bail};
use drover_protocol::session::{Input, Output, Session, Ticket};
use drover_protocol::{CloudEvent, Work};
use drover_transport::{Link, Publisher, Subscription, Transport, TransportError};
use futures::StreamExt as _;
use futures::future::{BoxFuture, FutureExt as _};
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use tokio::sync::Notify;

use crate::count::Counter;
use crate::drive::stamp_of;

/// Answers in flight at once.
const WINDOW: usize = 128;

/// A session and the link that it speaks on.
pub struct Bare<S> {
    session: Arc<Mutex<S>>,
    publisher: Arc<dyn Publisher>,
    work: Arc<Notify>,
}

type Flying = BoxFuture<'static, (Ticket, Result<(), TransportError>)>;

impl<S: Session<Object = Work>> Bare<S> {
    /// Connects and subscribes; from now on the session is fed and what it owes is sent.
    pub async fn open(
        transport: &dyn Transport,
        subscription: Subscription,
        mut session: S,
        counter: Arc<Counter>,
    ) -> Result<Self> {
        let link = transport.open(subscription).await?;
        session.handle(Timestamp::now(), Input::Up, &mut Vec::new());
        let session = Arc::new(Mutex::new(session));
        let publisher = Arc::clone(&link.publisher);
        let work = Arc::<Notify>::default();
        let (speaking, told) = (Arc::clone(&session), Arc::clone(&work));
        tokio::spawn(async move {
            let lost = speak(speaking, link, told, counter).await;
            if let Err(error) = lost {
                crate::eprint(&format!("perf-role: {error:#}"));
            }
        });
        Ok(Self {
            session,
            publisher,
            work,
        })
    }

    /// The session.
    pub fn session(&self) -> MutexGuard<'_, S> {
        lock(&self.session)
    }

    /// Another session from now on.
    pub fn replace(&self, mut session: S) {
        session.handle(Timestamp::now(), Input::Up, &mut Vec::new());
        *self.session() = session;
    }

    /// Forgets what is owed, as if it had been sent.
    pub fn discard(&self) {
        let mut session = self.session();
        let (now, mut out) = (Timestamp::now(), Vec::new());
        while let Some(transmit) = session.poll_transmit(now, &mut out) {
            session.handle(now, Input::Sent(transmit.ticket), &mut out);
        }
    }

    /// Sends an event past the session.
    pub async fn publish(&self, event: CloudEvent) -> Result<()> {
        Ok(self.publisher.publish(event).await?)
    }

    /// Asks the other side what differs; returns when the first request was taken.
    pub async fn resync(&self) -> Result<()> {
        let transmit = {
            let mut session = self.session();
            let (now, mut out) = (Timestamp::now(), Vec::new());
            session.handle(now, Input::Resync, &mut out);
            session.poll_transmit(now, &mut out)
        };
        let Some(transmit) = transmit else {
            bail!("the session asks nothing");
        };
        self.publisher.publish(transmit.event).await?;
        let sent = Input::Sent(transmit.ticket);
        self.session()
            .handle(Timestamp::now(), sent, &mut Vec::new());
        self.work.notify_one();
        Ok(())
    }
}

fn lock<S>(session: &Mutex<S>) -> MutexGuard<'_, S> {
    session.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Feeds the session, counts what changes, and sends what is owed, until the link is lost.
async fn speak<S: Session<Object = Work>>(
    session: Arc<Mutex<S>>,
    mut link: Link,
    work: Arc<Notify>,
    counter: Arc<Counter>,
) -> Result<()> {
    let mut flying = FuturesUnordered::<Flying>::new();
    let mut out = Vec::new();
    loop {
        while flying.len() < WINDOW {
            let next = lock(&session).poll_transmit(Timestamp::now(), &mut out);
            let Some(transmit) = next else {
                break;
            };
            let publisher = Arc::clone(&link.publisher);
            let send = async move { (transmit.ticket, publisher.publish(transmit.event).await) };
            flying.push(send.boxed());
        }
        let input = tokio::select! {
            event = link.events.next() => match event {
                Some(event) => Input::Wire(event?),
                None => bail!("the link is lost"),
            },
            Some((ticket, sent)) = flying.next() => {
                sent?;
                Input::Sent(ticket)
            }
            () = work.notified() => continue,
        };
        let sent = match &input {
            Input::Wire(event) => stamp_of(event),
            _ => None,
        };
        lock(&session).handle(Timestamp::now(), input, &mut out);
        for output in out.drain(..) {
            if let Output::Change(_) = output {
                counter.hit_since(sent);
            }
        }
    }
}
