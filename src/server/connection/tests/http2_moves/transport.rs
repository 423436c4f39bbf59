//! A stream that changes what a client of h2 writes to what other clients write, and cuts it into pieces.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
    time::{Sleep, sleep},
};

use super::{
    super::super::observe::http2::frame::{Head, flag, kind},
    client::make,
};

/// How frames are changed and cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Changes {
    /// So many bytes are written at once, and read at once.
    pub(super) slice: usize,
    /// After so many pieces, this long a pause.
    pub(super) pause: Option<(u32, u64)>,
    /// Header blocks go on in a CONTINUATION from this byte on.
    pub(super) split: Option<usize>,
    pub(super) pads_headers: Option<u8>,
    pub(super) pads_data: Option<u8>,
    /// Frames that mean nothing go before each frame.
    pub(super) junk: bool,
}

pub(super) struct Changed {
    stream: UnixStream,
    changes: Changes,
    /// What is no whole frame yet; first the preface.
    partial: Vec<u8>,
    is_open: bool,
    out: Vec<u8>,
    pieces: u32,
    paused: Option<Pin<Box<Sleep>>>,
}

impl Changed {
    pub(super) fn new(stream: UnixStream, changes: Changes) -> Self {
        Self { stream, changes, partial: Vec::new(), is_open: false, out: Vec::new(), pieces: 0, paused: None }
    }

    fn take_frames(&mut self) {
        if !self.is_open && self.partial.len() >= 24 {
            self.out.extend(self.partial.drain(..24));
            self.is_open = true;
        }
        while self.is_open {
            let Some(head) = self.partial.first_chunk().map(|head| Head::parse(*head)) else { return };
            let length = 9 + head.length as usize;
            if self.partial.len() < length {
                return;
            }
            let payload: Vec<_> = self.partial.drain(..length).skip(9).collect();
            self.change(head, &payload);
        }
    }

    fn change(&mut self, head: Head, payload: &[u8]) {
        let Changes { split, pads_headers, pads_data, junk, .. } = self.changes;
        let Head { kind, flags, stream, .. } = head;
        if junk && kind != kind::SETTINGS {
            self.out.extend(make(kind::PRIORITY, 0, stream.max(1), &[0, 0, 0, 0x77, 7]));
            self.out.extend(make(0x10, 0, 0, &[&stream.to_be_bytes(), &b"u=3"[..]].concat()));
            self.out.extend(make(0xab, 0x55, stream, b"who knows"));
        }
        match kind {
            kind::HEADERS if flags & (flag::PADDED | flag::PRIORITY) == 0 => {
                let ends = flags & flag::END_HEADERS;
                let cut = split.map_or(payload.len(), |split| split.min(payload.len()));
                let (first, rest) = payload.split_at(cut);
                let flags = if rest.is_empty() { flags } else { flags & !flag::END_HEADERS };
                self.out.extend(padded(kind, flags, stream, first, pads_headers));
                if !rest.is_empty() {
                    self.out.extend(make(kind::CONTINUATION, ends, stream, rest));
                }
            }
            kind::DATA => self.out.extend(padded(kind, flags, stream, payload, pads_data)),
            _ => self.out.extend(make(kind, flags, stream, payload)),
        }
    }

    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(paused) = &mut self.paused {
            ready!(paused.as_mut().poll(cx));
            self.paused = None;
        }
        Poll::Ready(())
    }

    /// Writes one piece after the other, and lets others run in between.
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.out.is_empty() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_pause(cx));
        let most = self.out.len().min(self.changes.slice);
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.out[..most]))?;
        self.out.drain(..written);
        self.pieces += 1;
        if let Some((_, millis)) = self.changes.pause.filter(|(every, _)| self.pieces % every == 0) {
            self.paused = Some(Box::pin(sleep(Duration::from_millis(millis))));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

fn padded(kind: u8, flags: u8, stream: u32, payload: &[u8], padding: Option<u8>) -> Vec<u8> {
    let Some(padding) = padding.filter(|padding| payload.len() + usize::from(*padding) < 16_000) else {
        return make(kind, flags, stream, payload);
    };
    make(kind, flags | flag::PADDED, stream, &[&[padding], payload, &vec![0; padding.into()]].concat())
}

impl AsyncWrite for Changed {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.out.len() > 64 * 1024 {
            ready!(this.poll_out(cx))?;
        }
        this.partial.extend_from_slice(buf);
        this.take_frames();
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_out(cx))?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_out(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

impl AsyncRead for Changed {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let mut piece = buf.take(this.changes.slice);
        ready!(Pin::new(&mut this.stream).poll_read(cx, &mut piece))?;
        let filled = piece.filled().len();
        // What `take` gives has initialized so many bytes of `buf`.
        let bytes = piece.filled().to_vec();
        debug_assert_eq!(filled, bytes.len());
        buf.put_slice(&bytes);
        Poll::Ready(Ok(()))
    }
}
