//! HTTP/2 connections move from one instance of hyper to the next, and their clients see nothing of it.

mod client;
mod floods;
mod handler;
mod lines;
mod load;
mod plain;
mod property;
mod raw;
mod tables;
mod transport;
mod traps;
mod windows;
