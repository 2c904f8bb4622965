//! The codec alone: works to events to bytes and back, per second of processor time.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use drover_protocol::{
    Action, AgentBundleCodec, CloudEvent, Codec as _, DataType, EventType, SourceBundleCodec,
    Stamp, SubResource, Work,
};
use drover_transport::grpc::convert::{decode, encode};
use drover_transport::mqtt::MAX_PACKET;
use drover_transport::mqtt::event::{from_message, to_message};
use drover_transport::mqtt::packet::{Framed, Packet, frame};
use jiff::Timestamp;
use serde_json::json;

use crate::contract::cpu;
use crate::fixture::{self, Shape};
use crate::flags::Flags;

/// Different works, so that caches are not warmer than in life.
const SET: usize = 64;
const TOPIC: &str = "sources/bench/clusters/cluster0/sourceevents";

/// Everything that the steps begin with.
struct Samples {
    works: Vec<Work>,
    reports: Vec<Work>,
    specs: Forms,
    statuses: Forms,
}

/// One kind of event in every form.
struct Forms {
    events: Vec<CloudEvent>,
    grpc: Vec<Bytes>,
    mqtt: Vec<Vec<u8>>,
    json: Vec<Bytes>,
}

/// A name, the bytes it is about, and what is done once.
type Step = (
    &'static str,
    usize,
    Arc<dyn Fn(usize) -> Result<()> + Send + Sync>,
);

/// Measures and prints one JSON line for each repetition.
pub fn run(flags: &Flags) -> Result<()> {
    let shape = Shape {
        manifests: flags.number("manifests", 10)?,
        size: flags.number("size", 1024)?,
        version: 1,
    };
    let (repetitions, seconds) = (flags.number("reps", 5)?, flags.number("seconds", 3.0)?);
    let only = flags.text("only");
    let implementation = std::env::var("PERF_IMPL").unwrap_or_else(|_| "drover".to_owned());
    let cores = std::thread::available_parallelism()?.get();
    for (name, size, step) in steps(shape)? {
        if !name.contains(only) {
            continue;
        }
        let on_wire = name.ends_with("grpc.roundtrip") || name.ends_with("mqtt.roundtrip");
        for threads in [1].into_iter().chain(on_wire.then_some(cores)) {
            let suffix = if threads > 1 { ".allcores" } else { "" };
            for repetition in 1..=repetitions {
                let (per_second, per_cpu) = measure(&step, threads, seconds)?;
                let line = json!({
                    "bench": format!("codec.{name}{suffix}"), "impl": implementation, "rep": repetition,
                    "params": {"manifests": shape.manifests, "manifest_bytes": shape.size, "payload_bytes": size, "cores": threads},
                    "metrics": {
                        "ops_per_s": per_second, "ops_per_cpu_s": per_cpu, "cpu_us_per_op": 1e6 / per_cpu,
                        "mb_per_cpu_s": per_cpu * size as f64 / 1e6,
                    },
                });
                print(&line.to_string());
            }
        }
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the result of the program")]
fn print(line: &str) {
    println!("{line}");
}

/// Operations per second, and per second of processor time.
fn measure(
    step: &Arc<dyn Fn(usize) -> Result<()> + Send + Sync>,
    threads: usize,
    seconds: f64,
) -> Result<(f64, f64)> {
    for number in 0..50 {
        step(number)?;
    }
    let done = AtomicU64::new(0);
    let (used, start) = (cpu(), Instant::now());
    let end = start + Duration::from_secs_f64(seconds);
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads)
            .map(|first| {
                let (step, done) = (Arc::clone(step), &done);
                scope.spawn(move || -> Result<()> {
                    let mut number = first;
                    while Instant::now() < end {
                        step(number)?;
                        number += threads;
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        handles.into_iter().try_for_each(|handle| {
            handle
                .join()
                .map_err(|_| anyhow::anyhow!("a step panicked"))?
        })
    })?;
    let done = done.load(Ordering::Relaxed) as f64;
    Ok((done / start.elapsed().as_secs_f64(), done / (cpu() - used)))
}

fn event_type(subresource: SubResource, action: Action) -> EventType {
    DataType::MANIFEST_BUNDLES.event(subresource, action)
}

fn stamp(source: &str) -> Stamp<'_> {
    Stamp {
        id: "3f933205-d034-4ce4-98e7-a5e98d43f6ac".to_owned(),
        time: Timestamp::now(),
        source,
        sequence: Some("2060647406105530368".to_owned()),
    }
}

fn spec(work: &Work) -> Result<CloudEvent> {
    let event_type = event_type(SubResource::Spec, Action::Create);
    Ok(SourceBundleCodec.encode(stamp("bench"), &event_type, work)?)
}

fn status(work: &Work) -> Result<CloudEvent> {
    let event_type = event_type(SubResource::Status, Action::Update);
    Ok(AgentBundleCodec.encode(stamp("cluster0-work-agent"), &event_type, work)?)
}

fn from_grpc(bytes: Bytes) -> Result<CloudEvent> {
    decode(bytes)?.context("a sign of life")
}

/// The packet of an event, to the same topic as everybody's.
fn to_mqtt(event: &CloudEvent) -> Result<Vec<u8>> {
    let mut packet = Vec::new();
    to_message(event, TOPIC, 1)?.write(&mut packet, 1);
    Ok(packet)
}

fn from_mqtt(bytes: &[u8]) -> Result<CloudEvent> {
    let Framed::Whole(frame) = frame(bytes, MAX_PACKET)? else {
        bail!("a packet is not whole");
    };
    let Packet::Publish(message) = Packet::read(frame)? else {
        bail!("a packet is no message");
    };
    Ok(from_message(&message)?)
}

fn read_spec(event: &CloudEvent) -> Result<()> {
    black_box(AgentBundleCodec.decode(event)?);
    Ok(())
}

fn read_status(event: &CloudEvent) -> Result<()> {
    black_box(SourceBundleCodec.decode(event)?);
    Ok(())
}

impl Forms {
    fn new(works: &[Work], event: fn(&Work) -> Result<CloudEvent>) -> Result<Self> {
        let events: Vec<_> = works.iter().map(event).collect::<Result<_>>()?;
        Ok(Self {
            grpc: events.iter().map(encode).collect(),
            mqtt: events.iter().map(to_mqtt).collect::<Result<_>>()?,
            json: events.iter().map(|event| event.to_json().into()).collect(),
            events,
        })
    }
}

impl Samples {
    fn new(shape: Shape) -> Result<Self> {
        let works = (0..SET)
            .map(|id| fixture::work(id, "cluster0", shape))
            .collect::<Result<Vec<_>>>()?;
        let reports: Vec<_> = (0..SET)
            .map(|id| {
                let mut work = fixture::held(fixture::work(id, "cluster0", shape)?, "bench");
                work.status = fixture::status(&work, id);
                Ok(work)
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            specs: Forms::new(&works, spec)?,
            statuses: Forms::new(&reports, status)?,
            works,
            reports,
        })
    }
}

fn steps(shape: Shape) -> Result<Vec<Step>> {
    let samples = Arc::new(Samples::new(shape)?);
    let mut steps = Vec::<Step>::new();
    let mut add = |name, bytes, run: fn(&Samples, usize) -> Result<()>| {
        let samples = Arc::clone(&samples);
        steps.push((
            name,
            bytes,
            Arc::new(move |number| run(&samples, number % SET)),
        ));
    };
    let first = |of: &[Bytes]| of.first().map_or(0, Bytes::len);
    let packet = |of: &Forms| of.mqtt.first().map_or(0, Vec::len);
    let data = |of: &Forms| of.events.first().map_or(0, |event| event.payload().len());
    let (specs, statuses) = (&samples.specs, &samples.statuses);
    add("spec.object.encode", data(specs), |s, i| {
        black_box(spec(&s.works[i])?);
        Ok(())
    });
    add("spec.object.decode", data(specs), |s, i| {
        read_spec(&s.specs.events[i])
    });
    add("spec.object.roundtrip", data(specs), |s, i| {
        read_spec(&spec(&s.works[i])?)
    });
    add("spec.grpc.encode", first(&specs.grpc), |s, i| {
        black_box(encode(&spec(&s.works[i])?));
        Ok(())
    });
    add("spec.grpc.decode", first(&specs.grpc), |s, i| {
        read_spec(&from_grpc(s.specs.grpc[i].clone())?)
    });
    add("spec.grpc.roundtrip", first(&specs.grpc), |s, i| {
        read_spec(&from_grpc(encode(&spec(&s.works[i])?))?)
    });
    add("spec.mqtt.encode", packet(specs), |s, i| {
        black_box(to_mqtt(&spec(&s.works[i])?)?);
        Ok(())
    });
    add("spec.mqtt.decode", packet(specs), |s, i| {
        read_spec(&from_mqtt(&s.specs.mqtt[i])?)
    });
    add("spec.mqtt.roundtrip", packet(specs), |s, i| {
        read_spec(&from_mqtt(&to_mqtt(&spec(&s.works[i])?)?)?)
    });
    add(
        "spec.json-structured.roundtrip",
        first(&specs.json),
        |s, i| read_spec(&CloudEvent::from_json(&spec(&s.works[i])?.to_json())?),
    );
    add("status.object.roundtrip", data(statuses), |s, i| {
        read_status(&status(&s.reports[i])?)
    });
    add("status.grpc.roundtrip", first(&statuses.grpc), |s, i| {
        read_status(&from_grpc(encode(&status(&s.reports[i])?))?)
    });
    add("status.mqtt.roundtrip", packet(statuses), |s, i| {
        read_status(&from_mqtt(&to_mqtt(&status(&s.reports[i])?)?)?)
    });
    add("status.hash", data(statuses), |s, i| {
        black_box(s.reports[i].status.hash());
        Ok(())
    });
    Ok(steps)
}
