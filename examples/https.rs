//! HTTPS on the socket "https", a redirect to it on "http", and a certificate that is read again at SIGUSR1.
//!
//! ```text
//! cargo run --example https --features tls-ring
//! curl --cacert examples/tls/localhost.pem https://localhost:8443/
//! cargo run --example https --features tls-ring -- fullchain.pem privkey.pem
//! ```

use std::{env, time::Duration};

use axum::{
    Router,
    extract::Request,
    http::{StatusCode, Uri, header::HOST},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use axum_activation::{
    ActivatedListeners, Error, Server,
    server::ServeOptions,
    tls::{Tls, TlsInfo, rustls::crypto::ring},
};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> Result<(), Error> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let mut args = env::args_os().skip(1);
    let certificate = args.next().unwrap_or_else(|| "examples/tls/localhost.pem".into());
    let key = args.next().unwrap_or_else(|| "examples/tls/localhost.key".into());
    let activated = ActivatedListeners::builder()
        .fallback("https", "127.0.0.1:8443")
        .fallback("http", "127.0.0.1:8080")
        .from_env()?;
    let tls = Tls::provider(ring::default_provider()).pem_files(certificate, key).build()?;
    let tls = tls.handshake_timeout(Duration::from_secs(5));
    tokio::spawn(reload_at_sigusr1(tls.clone()));

    let app = Router::new().route("/", get(|| async { "hello\n" })).route("/tls", get(about_tls));
    Server::new(activated)
        .serve_with("https", app, ServeOptions::new().tls(tls))
        .serve("http", Router::new().fallback(to_https))
        .run()
        .await?;
    Ok(())
}

async fn about_tls(tls: TlsInfo) -> String {
    format!("{tls:?}\n")
}

/// The same address with https. A client sends `Host` as it likes, so a service with names of its own puts one of them here.
async fn to_https(request: Request) -> Response {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let name = host.and_then(|host| host.parse::<Uri>().ok()).and_then(|uri| uri.host().map(str::to_owned));
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    match name {
        Some(name) => Redirect::permanent(&format!("https://{name}:8443{target}")).into_response(),
        None => StatusCode::BAD_REQUEST.into_response(),
    }
}

async fn reload_at_sigusr1(tls: Tls) {
    let Ok(mut signals) = signal(SignalKind::user_defined1()) else { return };
    while signals.recv().await.is_some() {
        match tls.reload().await {
            Ok(()) => tracing::info!("the certificate was read again"),
            Err(error) => tracing::error!(%error, "the certificate in use stays in use"),
        }
    }
}
