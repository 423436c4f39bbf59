//! The next process of a service, started for real: what it is passed, what it is, and what happens when it cannot be.

pub(crate) mod passing;
pub(crate) mod program;
mod refusals;

/// Starts the next process from a service as it would be: with several threads.
fn start_process<const N: usize>(sockets: [(&str, std::os::fd::OwnedFd); N]) -> Result<u32, String> {
    start_all(sockets.map(|(name, fd)| (name.to_owned(), fd)).into())
}

fn start_all(sockets: Vec<(String, std::os::fd::OwnedFd)>) -> Result<u32, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    let started = runtime.block_on(axum_activation::handoff::start_process(sockets));
    started.map_err(|error| {
        assert!(error.is_start_failure(), "{error:?}");
        error.to_string()
    })
}
