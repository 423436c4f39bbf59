//! The state of the service, in named sections: one message each, with a memfd where the data is long.

use std::os::fd::{AsFd, OwnedFd};

use bytes::Bytes;

use super::{
    channel::Channel,
    error::Refusal,
    packet::LONGEST_INLINE,
    protocol::{Blob, SectionKind, SectionRecord},
};
use crate::{blocking::on_thread_or_here, sys::memfd};

/// The longest data of a section, in bytes.
pub(crate) const LONGEST_SECTION: u64 = 1 << 30;

/// A named part of the service's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) kind: SectionKind,
    pub(crate) name: String,
    /// The version of its data, which the application counts.
    pub(crate) version: u32,
    pub(crate) data: Bytes,
}

impl Section {
    /// Sends it, in one message.
    pub(super) async fn send(self, channel: &Channel) -> Result<(), Refusal> {
        let (record, memfd) = self.pack().await?;
        let fds: Vec<_> = memfd.iter().map(AsFd::as_fd).collect();
        channel.send(record, &fds).await
    }

    /// As it is sent. Long data is copied into a memfd, away from the runtime's threads.
    async fn pack(self) -> Result<(SectionRecord, Option<OwnedFd>), Refusal> {
        let Self { kind, name, version, data } = self;
        let len = data.len() as u64;
        if data.len() <= LONGEST_INLINE {
            return Ok((SectionRecord { kind, name, version, len, inline: Some(Blob(data)) }, None));
        }
        if len > LONGEST_SECTION {
            let problem = format!("section {name:?} has {len} bytes, the most is {LONGEST_SECTION}");
            return Err(Refusal::System { doing: "send the state", problem });
        }
        let copied = on_thread_or_here(move || memfd::sealed("axum-activation state", &[&data])).await;
        let memfd = copied.and_then(|memfd| memfd).map_err(Refusal::system("copy the state into a memfd"))?;
        Ok((SectionRecord { kind, name, version, len, inline: None }, Some(memfd)))
    }

    /// As [`unpack`](Self::unpack), away from the runtime's threads where there is much to copy.
    pub(super) async fn unpack_async(record: SectionRecord, fds: Vec<OwnedFd>) -> Result<Self, Refusal> {
        if record.inline.is_some() {
            return Self::unpack(record, fds);
        }
        let unpacked = on_thread_or_here(|| Self::unpack(record, fds)).await;
        unpacked.unwrap_or_else(|error| Err(Refusal::system("read the state")(error)))
    }

    /// The section in a message that was received.
    pub(super) fn unpack(record: SectionRecord, fds: Vec<OwnedFd>) -> Result<Self, Refusal> {
        let SectionRecord { kind, name, version, len, inline } = record;
        let problem = |problem: String| Refusal::Descriptors { problem: format!("section {name:?}: {problem}") };
        let data = match inline {
            Some(Blob(data)) if data.len() as u64 == len => data,
            Some(_) => return Err(problem("its length is another than announced".to_owned())),
            None if len > LONGEST_SECTION => return Err(problem(format!("{len} bytes are too many"))),
            None => {
                let [memfd] = <[OwnedFd; 1]>::try_from(fds)
                    .map_err(|fds| problem(format!("{} descriptors came with it in place of one", fds.len())))?;
                memfd::read(memfd, len).map_err(|error| problem(error.to_string()))?.into()
            }
        };
        Ok(Self { kind, name, version, data })
    }
}
