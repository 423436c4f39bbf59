//! HTTP/2 connections move from one instance of hyper to the next, and their clients see nothing of it.

mod client;
mod handler;
mod lines;
mod plain;
mod raw;
