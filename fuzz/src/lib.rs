//! What the targets share: numbers and split points out of the input, and a limit for what a parser holds.

pub mod http2;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Counts the bytes that are allocated, and the most of them since [`bounded`] has started.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Relaxed) + layout.size();
        MOST.fetch_max(now, Relaxed);
        // SAFETY: as the caller of this function has promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller of this function has promised.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Runs `work`, which may never have allocated more than `limit` bytes at a time.
pub fn bounded<T>(limit: usize, work: impl FnOnce() -> T) -> T {
    let before = NOW.load(Relaxed);
    MOST.store(before, Relaxed);
    let result = work();
    let most = MOST.load(Relaxed).saturating_sub(before);
    assert!(most <= limit, "{most} bytes were held, the limit is {limit}");
    result
}

/// The input, taken from its front. What is not there is 0.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    /// A number from 0 to `most`.
    pub fn up_to(&mut self, most: usize) -> usize {
        let number = usize::from(self.byte()) << 8 | usize::from(self.byte());
        if most == 0 { 0 } else { number % (most + 1) }
    }

    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// The next `len` bytes, or those that are left.
    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    /// Bytes behind their length.
    pub fn chunk(&mut self) -> &'a [u8] {
        let len = self.up_to(usize::from(u16::MAX));
        self.bytes(len)
    }
}

/// The parts of `bytes`, cut where `cuts` says: each byte is the length of a part, over and over. Without any, it is one part.
pub fn parts<'a>(mut bytes: &'a [u8], cuts: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    let mut lengths = cuts.iter().cycle();
    while !bytes.is_empty() {
        let length = lengths.next().map_or(bytes.len(), |length| usize::from(*length).max(1)).min(bytes.len());
        let (part, rest) = bytes.split_at(length);
        parts.push(part);
        bytes = rest;
    }
    parts
}

/// How many bytes `drop` frees.
pub fn held(drop: impl FnOnce()) -> usize {
    let before = NOW.load(Relaxed);
    drop();
    before.saturating_sub(NOW.load(Relaxed))
}
