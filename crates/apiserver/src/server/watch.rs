//! Changes as they happen.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use drover_schema::field_error::FieldError;
use drover_schema::protobuf;
use futures::stream;
use serde_json::{Value, json};
use tokio::time::{Instant, Sleep};

use super::Call;
use super::query::refuse;
use super::read::{Printer, metadata_of, parse_revision};
use super::select::Selection;
use super::wire::{self, Encoding, Form, Response};
use crate::resource::{Resource, encode};
use crate::status::{ApiError, ApiResult};
use crate::store::{Change, Object, Watch};

const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// How a watch begins.
struct Begin {
    /// The revision that was asked for.
    from: Option<u64>,
    /// Whether everything that is there comes first.
    everything: bool,
    /// Whether a bookmark tells where that ends.
    marked: bool,
}

/// What turns changes into events.
struct View {
    resource: Arc<Resource>,
    selection: Selection,
    namespace: Box<str>,
    form: Form,
    encoding: Encoding,
    printer: Option<Printer>,
    /// Columns are told once.
    columns_told: bool,
}

struct Stream {
    view: View,
    source: Watch,
    /// Nothing up to here is told.
    from: u64,
    pending: VecDeque<Pending>,
    bookmarks: bool,
    every: Duration,
    next_bookmark: Pin<Box<Sleep>>,
    end: Pin<Box<Sleep>>,
    ended: bool,
}

/// What is sent before the first change.
enum Pending {
    Added(Arc<Object>),
    Bookmark(u64),
}

impl Call<'_> {
    pub(super) async fn watch(&self) -> ApiResult<Response> {
        let wanted = self.wanted()?;
        if wanted.encoding == Encoding::Yaml {
            return Err(ApiError::not_acceptable(&[wire::JSON, wire::PROTOBUF]));
        }
        let begin = self.watch_begin()?;
        let selection = self.selection()?;
        let printer = match wanted.form {
            Form::Table(version) => Some(self.printer(version)?),
            _ => None,
        };
        let view = View {
            resource: Arc::clone(&self.resource),
            selection,
            namespace: self.namespace.into(),
            form: wanted.form,
            encoding: wanted.encoding,
            printer,
            columns_told: false,
        };
        match self.open(view, &begin)? {
            Ok(watch) => Ok(watch.into_response()),
            Err(error) => Ok(wire::bytes(
                200,
                media(wanted.encoding),
                emit(wanted.encoding, "ERROR", &error.to_status()),
            )),
        }
    }

    fn watch_begin(&self) -> ApiResult<Begin> {
        let query = self.query;
        let matching = query.get("resourceVersionMatch");
        let initial = query
            .get("sendInitialEvents")
            .map(|_| query.is_true("sendInitialEvents"));
        let bookmarks = query.is_true("allowWatchBookmarks");
        let mut errors = Vec::new();
        match (matching, initial) {
            (None, Some(_)) => errors.push(FieldError::forbidden(
                "resourceVersionMatch",
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            )),
            (Some(_), None) => errors.push(FieldError::forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            )),
            (Some("NotOlderThan"), _) | (None, None) => {}
            (Some(other), Some(_)) => errors.push(FieldError::not_supported(
                "resourceVersionMatch",
                other,
                &["NotOlderThan"],
            )),
        }
        refuse("ListOptions", &errors)?;
        let from = match query.get("resourceVersion") {
            None => None,
            Some(text) => match parse_revision(text) {
                Ok(revision) => Some(revision),
                Err(why) => {
                    let text = format!("resourceVersion: Invalid value: {text:?}: {why}");
                    return Err(ApiError::new(500, "", text));
                }
            },
        };
        let everything = initial.unwrap_or(from.unwrap_or(0) == 0);
        Ok(Begin {
            from,
            everything,
            marked: initial == Some(true) && bookmarks,
        })
    }

    /// The inner error is one that is told as an event.
    fn open(&self, view: View, begin: &Begin) -> ApiResult<Result<Stream, Box<ApiError>>> {
        let store = self.server.store();
        let asked = begin.from.unwrap_or(0);
        let mut pending = VecDeque::new();
        let from = if begin.everything {
            let listing = self.snapshot(&view.selection);
            if asked > listing.revision {
                return Ok(Err(ApiError::too_large_revision(asked, listing.revision)));
            }
            pending.extend(listing.items.into_iter().map(Pending::Added));
            if begin.marked {
                pending.push_back(Pending::Bookmark(listing.revision));
            }
            listing.revision
        } else if asked == 0 {
            store.revision()
        } else {
            asked
        };
        let source = match store.watch(&self.resource.storage, from) {
            Ok(source) => source,
            Err(gone) => {
                return Ok(Err(ApiError::expired(format!(
                    "too old resource version: {from} ({})",
                    gone.oldest
                ))));
            }
        };
        let config = self.server.config();
        let end = self.watch_duration()?;
        Ok(Ok(Stream {
            view,
            source,
            from,
            pending,
            bookmarks: self.query.is_true("allowWatchBookmarks"),
            every: config.bookmark_every,
            next_bookmark: Box::pin(tokio::time::sleep(config.bookmark_every)),
            end: Box::pin(tokio::time::sleep(end)),
            ended: false,
        }))
    }

    fn watch_duration(&self) -> ApiResult<Duration> {
        if let Some(seconds) = self.query.integer("timeoutSeconds")?
            && let Ok(seconds @ 1..) = u64::try_from(seconds)
        {
            return Ok(Duration::from_secs(seconds.min(7 * 24 * 3600)));
        }
        let least = self.server.config().watch_for;
        let share = f64::from(u32::from_le_bytes(self.server.random_bytes())) / f64::from(u32::MAX);
        Ok(least.mul_f64(1.0 + share))
    }
}

impl Stream {
    fn into_response(self) -> Response {
        let media = media(self.view.encoding);
        let events = stream::unfold(self, |mut watch| async move {
            let event = watch.next().await?;
            Some((event, watch))
        });
        wire::streaming(media, events)
    }

    async fn next(&mut self) -> Option<Bytes> {
        match self.pending.pop_front() {
            Some(Pending::Added(object)) => {
                return Some(self.view.event("ADDED", &object, None));
            }
            Some(Pending::Bookmark(revision)) => return Some(self.view.bookmark(revision, true)),
            None => {}
        }
        while !self.ended {
            tokio::select! {
                biased;
                () = &mut self.end => {
                    self.ended = true;
                    return self.bookmarks.then(|| self.bookmark());
                }
                change = self.source.next() => match change {
                    Ok(change) => {
                        if change.revision <= self.from {
                            continue;
                        }
                        if let Some(event) = self.view.translate(&change) {
                            return Some(event);
                        }
                    }
                    Err(gone) => {
                        self.ended = true;
                        let text = format!(
                            "too old resource version: {} ({})",
                            self.source.progress(),
                            gone.oldest
                        );
                        return Some(self.view.error(&ApiError::expired(text)));
                    }
                },
                () = &mut self.next_bookmark, if self.bookmarks => {
                    self.next_bookmark.as_mut().reset(Instant::now() + self.every);
                    return Some(self.bookmark());
                }
            }
        }
        None
    }

    fn bookmark(&mut self) -> Bytes {
        let revision = self.source.progress().max(self.from);
        self.view.bookmark(revision, false)
    }
}

impl View {
    fn translate(&mut self, change: &Change) -> Option<Bytes> {
        let matches = |object: &Arc<Object>| {
            (self.namespace.is_empty() || *object.key.namespace == *self.namespace)
                && self.selection.matches(&self.resource, object)
        };
        let old = change.old.as_ref().filter(|object| matches(object));
        let new = change.new.as_ref().filter(|object| matches(object));
        match (old, new) {
            (None, None) => None,
            (None, Some(new)) => Some(self.event("ADDED", new, None)),
            (Some(_), Some(new)) => Some(self.event("MODIFIED", new, None)),
            (Some(_), None) if change.removed.is_some() => change
                .removed
                .as_ref()
                .map(|last| self.event("DELETED", last, None)),
            (Some(old), None) => Some(self.event("DELETED", old, Some(change.revision))),
        }
    }

    /// One event; `revision` replaces that of the object.
    fn event(&mut self, kind: &str, object: &Object, revision: Option<u64>) -> Bytes {
        if self.form == Form::Object && revision.is_none() && self.encoding == Encoding::Json {
            return line(kind, &self.resource.read_bytes(object));
        }
        let mut value = self.resource.read(object);
        if let Some(revision) = revision {
            value["metadata"]["resourceVersion"] = revision.to_string().into();
        }
        let shown = match (&mut self.printer, self.form) {
            (Some(printer), _) => {
                printer.tick();
                let metadata =
                    json!({"resourceVersion": value["metadata"]["resourceVersion"].clone()});
                let columns = !std::mem::replace(&mut self.columns_told, true);
                printer.table(metadata, vec![printer.row(value)], columns)
            }
            (None, Form::Metadata(version)) => metadata_of(value, version),
            (None, _) => value,
        };
        emit(self.encoding, kind, &shown)
    }

    fn error(&self, error: &ApiError) -> Bytes {
        emit(self.encoding, "ERROR", &error.to_status())
    }

    fn bookmark(&mut self, revision: u64, initial: bool) -> Bytes {
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if initial {
            metadata["annotations"] = json!({INITIAL_EVENTS_END: "true"});
        }
        let object = json!({
            "apiVersion": &*self.resource.api_version, "kind": &*self.resource.kind,
            "metadata": metadata,
        });
        let shown = match (&self.printer, self.form) {
            (Some(printer), _) => {
                let columns = !std::mem::replace(&mut self.columns_told, true);
                let mut object = object;
                object["metadata"]["creationTimestamp"] = Value::Null;
                let own = json!({"resourceVersion": revision.to_string()});
                printer.table(own, vec![printer.row(object)], columns)
            }
            (None, Form::Metadata(version)) => metadata_of(object, version),
            (None, _) => object,
        };
        emit(self.encoding, "BOOKMARK", &shown)
    }
}

fn line(kind: &str, object: &[u8]) -> Bytes {
    let mut line = BytesMut::with_capacity(object.len() + kind.len() + 24);
    line.put_slice(b"{\"type\":\"");
    line.put_slice(kind.as_bytes());
    line.put_slice(b"\",\"object\":");
    line.put_slice(object);
    line.put_slice(b"}\n");
    line.freeze()
}

fn media(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        Encoding::Json | Encoding::Yaml => wire::JSON,
    }
}

/// One event in an encoding.
fn emit(encoding: Encoding, kind: &str, object: &Value) -> Bytes {
    if encoding == Encoding::Protobuf
        && let Some(frame) = protobuf::encode_watch_event(kind, object)
    {
        return Bytes::from(frame);
    }
    line(kind, &encode(object))
}
