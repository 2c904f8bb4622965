//! What goes over the wire, and in which order, without doing it.
//!
//! Everything here is a pure function or a struct that is fed: no sockets, no tasks, no clock and no randomness. `now` and
//! seeds come in as arguments, so that one session runs unchanged over gRPC, over a message broker and in a simulated world.
//!
//! Reading order: [`cloudevent`] (the envelope), [`eventtype`] (what its type says), [`object`] and [`work`] (the things that
//! travel), [`codec`], [`bundle`] and [`compat`] (how they travel), [`resync`] and [`sequence`] (who is newer), [`session`] (who says what when).

pub mod cloudevent;
pub mod eventtype;
pub mod names;
pub mod raw;
pub mod meta;
pub mod work;
mod gojson;
pub mod object;
pub mod codec;
pub mod bundle;
pub mod compat;
pub mod resync;
pub mod sequence;
pub mod ids;
pub mod trace;
pub mod session;
pub mod topics;
pub mod fedora;

pub use bundle::{AgentBundleCodec, SourceBundleCodec};
pub use cloudevent::{CloudEvent, ExtensionValue};
pub use codec::{Codec, DecodeError, EncodeError, Resource, Stamp};
pub use eventtype::{Action, DataType, EventType, SubResource};
pub use meta::ObjectMeta;
pub use object::{Object, ObjectCodec};
pub use topics::{TopicNames, Topics};
pub use trace::TraceContext;
pub use work::{Work, WorkSpec, WorkStatus};

#[cfg(test)]
mod vectors;
