//! Types as OpenAPI documents.
