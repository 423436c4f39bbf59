//! TLS on a named socket: certificates, handshakes, and what a request can ask about its connection.

mod certificates;
mod pem_file;
