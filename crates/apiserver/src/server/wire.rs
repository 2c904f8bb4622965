//! Bodies, media types and encodings.

use std::convert::Infallible;
use std::fmt;
use std::io::Write as _;

use bytes::{Buf as _, Bytes};
use drover_schema::protobuf;
use futures::{Stream, StreamExt as _};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, Empty, Full, Limited, StreamBody};
use serde_json::Value;

use crate::resource::encode;
use crate::status::{ApiError, ApiResult};

/// The body of a response.
pub type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>;
/// What the service answers.
pub type Response = http::Response<Body>;

/// The largest body of a request (bytes), as in Kubernetes.
pub(super) const MAX_BODY: usize = 3 * 1024 * 1024;
/// Responses of at least this size (bytes) are compressed for clients that ask.
const COMPRESS_FROM: usize = 128 * 1024;

pub(super) const JSON: &str = "application/json";
pub(super) const YAML: &str = "application/yaml";
pub(super) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const REPRESENTATIONS: [&str; 5] = [
    JSON,
    YAML,
    PROTOBUF,
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
];

/// How bytes stand for objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Json,
    Yaml,
    Protobuf,
}

/// What stands for an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The object itself.
    Object,
    /// A table in this version of `meta.k8s.io`.
    Table(&'static str),
    /// Only its metadata, in this version of `meta.k8s.io`.
    Metadata(&'static str),
}

/// The outcome of a negotiation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) encoding: Encoding,
    pub(super) form: Form,
    /// Whether JSON would do as well.
    pub(super) json_too: bool,
}

/// Names and values behind a media range.
pub(super) type Parameters = Vec<(String, String)>;

/// Media ranges of an Accept header with their parameters, best first.
fn ranges(accept: &str) -> Vec<(String, Parameters)> {
    let mut all: Vec<(u32, String, Parameters)> = Vec::new();
    for range in accept.split(',').take(64) {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default().to_ascii_lowercase();
        let mut quality = 1000;
        let mut parameters = Vec::new();
        for parameter in parts {
            let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            if key == "q" {
                quality = value
                    .parse::<f32>()
                    .map_or(1000, |q| (q.clamp(0.0, 1.0) * 1000.0) as u32);
            } else {
                parameters.push((key.to_owned(), value.to_owned()));
            }
        }
        if quality > 0 {
            all.push((quality, media, parameters));
        }
    }
    all.sort_by_key(|(quality, ..)| std::cmp::Reverse(*quality));
    all.into_iter()
        .map(|(_, media, parameters)| (media, parameters))
        .collect()
}

/// The parameters of the best range that asks for JSON with any `as` (discovery looks there).
pub(super) fn json_ranges(headers: &HeaderMap) -> Vec<Parameters> {
    ranges(accept(headers).unwrap_or(JSON))
        .into_iter()
        .filter(|(media, _)| matches!(media.as_str(), JSON | "*/*" | "application/*"))
        .map(|(_, parameters)| parameters)
        .collect()
}

fn accept(headers: &HeaderMap) -> Option<&str> {
    headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .filter(|text| !text.is_empty())
}

/// What a client wants of what can be had; `protobuf` tells whether the kind has that encoding,
/// `forms` whether objects can be shown otherwise than as they are.
pub(super) fn negotiate(headers: &HeaderMap, protobuf: bool, forms: bool) -> ApiResult<Wanted> {
    let all = ranges(accept(headers).unwrap_or("*/*"));
    let mut best: Option<Wanted> = None;
    let mut served = false;
    for (media, parameters) in all {
        let encoding = match media.as_str() {
            JSON | "*/*" | "application/*" => Encoding::Json,
            YAML => Encoding::Yaml,
            PROTOBUF if protobuf => Encoding::Protobuf,
            _ => continue,
        };
        served = true;
        let Some(form) = form(&parameters, forms) else {
            continue;
        };
        if encoding == Encoding::Protobuf && form != Form::Object {
            continue;
        }
        match &mut best {
            None => {
                best = Some(Wanted {
                    encoding,
                    form,
                    json_too: encoding == Encoding::Json,
                });
            }
            Some(best) => {
                best.json_too |= encoding == Encoding::Json && form == best.form;
            }
        }
    }
    // Where there is no protobuf (custom kinds), the words are always the same.
    best.ok_or_else(|| {
        if served || !protobuf {
            ApiError::form_not_acceptable(&REPRESENTATIONS[..3])
        } else {
            ApiError::not_acceptable(&REPRESENTATIONS)
        }
    })
}

fn form(parameters: &[(String, String)], forms: bool) -> Option<Form> {
    let get = |name: &str| {
        parameters
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, v)| v.as_str())
    };
    let Some(name) = get("as") else {
        return Some(Form::Object);
    };
    if !forms || get("g").is_some_and(|group| group != "meta.k8s.io") {
        return None;
    }
    let version = match get("v") {
        Some("v1") => "meta.k8s.io/v1",
        Some("v1beta1") => "meta.k8s.io/v1beta1",
        _ => return None,
    };
    match name {
        "Table" => Some(Form::Table(version)),
        "PartialObjectMetadata" | "PartialObjectMetadataList" => Some(Form::Metadata(version)),
        _ => None,
    }
}

/// A header value from text that is known to be plain.
pub(super) fn value(text: &'static str) -> HeaderValue {
    HeaderValue::from_static(text)
}

pub(super) fn empty() -> Body {
    Empty::new().boxed_unsync()
}

/// A response with one piece of bytes.
pub(super) fn bytes(code: u16, media: &'static str, body: Bytes) -> Response {
    finish(code, media, Full::new(body).boxed_unsync())
}

/// A response that goes on.
pub(super) fn streaming(
    media: &'static str,
    body: impl Stream<Item = Bytes> + Send + 'static,
) -> Response {
    let frames = body.map(|bytes| Ok(Frame::data(bytes)));
    finish(200, media, StreamBody::new(frames).boxed_unsync())
}

fn finish(code: u16, media: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, value(media));
    response
}

/// Plain text.
pub(super) fn text(code: u16, text: impl Into<String>) -> Response {
    bytes(code, "text/plain; charset=utf-8", Bytes::from(text.into()))
}

/// Any tree as JSON.
pub(super) fn json(code: u16, tree: &Value) -> Response {
    bytes(code, JSON, encode(tree))
}

/// A tree in the encoding that was negotiated.
pub(super) fn tree(code: u16, tree: &Value, wanted: Wanted) -> ApiResult<Response> {
    match wanted.encoding {
        Encoding::Json => Ok(json(code, tree)),
        Encoding::Yaml => Ok(bytes(code, YAML, to_yaml(tree)?)),
        Encoding::Protobuf => match protobuf::encode(tree) {
            Some(encoded) => Ok(bytes(code, PROTOBUF, Bytes::from(encoded))),
            None if wanted.json_too => Ok(json(code, tree)),
            None => Err(ApiError::not_acceptable(&[JSON, YAML])),
        },
    }
}

fn to_yaml(tree: &Value) -> ApiResult<Bytes> {
    serde_saphyr::to_string(tree)
        .map(Bytes::from)
        .map_err(ApiError::internal)
}

/// An error as the Status that the client can read.
pub(super) fn failure(error: &ApiError, headers: &HeaderMap) -> Response {
    let status = error.to_status();
    let wanted = negotiate(headers, true, false);
    let only_protobuf = accept(headers).is_some_and(|accept| accept.trim().starts_with(PROTOBUF));
    let mut response = match wanted {
        Ok(Wanted {
            encoding: Encoding::Protobuf,
            json_too: false,
            ..
        })
        | Err(_)
            if only_protobuf =>
        {
            match protobuf::encode(&status) {
                Some(encoded) => bytes(error.code, PROTOBUF, Bytes::from(encoded)),
                None => json(error.code, &status),
            }
        }
        Ok(wanted) => tree(
            error.code,
            &status,
            Wanted {
                json_too: true,
                ..wanted
            },
        )
        .unwrap_or_else(|_| json(error.code, &status)),
        Err(_) => json(error.code, &status),
    };
    if let Some(seconds) = status["details"]["retryAfterSeconds"].as_u64() {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The whole body of a request.
pub(super) async fn collect<B>(body: B) -> ApiResult<Bytes>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: fmt::Display,
{
    let body = Limited::new(body.map_err(|error| error.to_string()), MAX_BODY);
    match body.collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(ApiError::too_large(
            format!("Request entity too large: limit is {MAX_BODY}"),
        )),
        Err(error) => Err(ApiError::bad_request(format!(
            "failed to read the body of the request: {error}"
        ))),
    }
}

/// Compresses large complete bodies for clients that accept gzip.
pub(super) async fn compress(headers: &HeaderMap, response: Response) -> Response {
    let accepted = headers
        .get(header::ACCEPT_ENCODING)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|text| text.split(',').any(|part| part.trim().starts_with("gzip")));
    let size = http_body::Body::size_hint(response.body()).exact();
    if !accepted || size.is_none_or(|size| size < COMPRESS_FROM as u64) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(mut whole) = body
        .collect()
        .await
        .map(http_body_util::Collected::aggregate);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    while whole.has_remaining() {
        let piece = whole.chunk();
        let length = piece.len();
        // Writing to a vector cannot fail.
        if encoder.write_all(piece).is_err() {
            break;
        }
        whole.advance(length);
    }
    let Ok(compressed) = encoder.finish() else {
        let error = ApiError::internal("failed to compress the response");
        return json(error.code, &error.to_status());
    };
    parts
        .headers
        .insert(header::CONTENT_ENCODING, value("gzip"));
    parts.headers.insert(header::VARY, value("Accept-Encoding"));
    parts.headers.remove(header::CONTENT_LENGTH);
    http::Response::from_parts(parts, Full::new(Bytes::from(compressed)).boxed_unsync())
}
