//! The controllers of one hub, and the broker backed by its API.
