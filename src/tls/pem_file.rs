//! PEM files, read until they can be used, and what is wrong with those that cannot.
//!
//! A file that cannot be used is read again for up to a second, because a renewal changes the files one after the
//! other, and certbot removes a link before it makes the new one. A chain that ends between two certificates looks
//! whole, so a renewal is safe if it writes another file and renames it.
//!
//! The text of a key file is cleared here, and rustls clears the decoded key once its provider has it. The decoder of
//! PEM does not clear its own buffer, and the provider keeps the key for as long as the configuration lives. No error
//! shows any of it.

use std::{fs, io, path::Path, thread, time::Duration};

use rustls::pki_types::{
    PrivateKeyDer,
    pem::{self, PemObject},
};
use zeroize::Zeroizing;

use crate::error::{Error, Kind};

/// How often a file is read until it can be used.
const READS: u32 = 10;

/// How long a file that cannot be used is left alone before it is read again.
const PAUSE: Duration = Duration::from_millis(100);

/// A file that cannot be used.
pub(super) enum Unusable {
    /// It may be in the middle of a renewal.
    ForNow(Error),
    /// No renewal looks like this.
    ForGood(Error),
}

/// What is looked for in a file, in words, in PEM, and as the command of openssl that converts it.
pub(super) struct Wanted {
    name: &'static str,
    label: &'static str,
    command: &'static str,
}

pub(super) const CERTIFICATE: Wanted = Wanted { name: "certificate", label: "CERTIFICATE", command: "x509" };
const KEY: Wanted = Wanted { name: "private key", label: "PRIVATE KEY", command: "pkey" };
pub(super) const CRL: Wanted = Wanted { name: "revocation list", label: "X509 CRL", command: "crl" };

/// Waits between two reads of a file.
pub(super) fn pause() {
    thread::sleep(PAUSE);
}

/// Reads until what is read can be used, [`READS`] times at most.
pub(super) fn until_usable<T>(wait: &mut dyn FnMut(), read: impl Fn() -> Result<T, Unusable>) -> Result<T, Error> {
    let mut reads = 1;
    loop {
        match read() {
            Ok(read) => return Ok(read),
            Err(Unusable::ForNow(_)) if reads < READS => wait(),
            Err(Unusable::ForNow(error) | Unusable::ForGood(error)) => return Err(error),
        }
        reads += 1;
    }
}

/// All that the file has of one kind, which is one at least. Other kinds are left out, as in a file with chain and key.
pub(super) fn items<T: PemObject>(file: &Path, wanted: &Wanted) -> Result<Vec<T>, Unusable> {
    let text = text(file)?;
    let items: Vec<_> = T::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| Unusable::ForNow(unusable(file, problem(&error, &text, wanted))))?;
    if items.is_empty() {
        return Err(Unusable::ForNow(unusable(file, problem(&pem::Error::NoItemsFound, &text, wanted))));
    }
    Ok(items)
}

/// The first key of the file.
pub(super) fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, Unusable> {
    let text = text(file)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        if is_in(&text, "-----BEGIN ENCRYPTED PRIVATE KEY-----") || is_in(&text, "Proc-Type: 4,ENCRYPTED") {
            let fix = "the key is encrypted; decrypt it with `openssl pkey -in FILE -out NEW`, and let only the user of this \
                       process read it";
            return Unusable::ForGood(unusable(file, fix));
        }
        Unusable::ForNow(unusable(file, problem(&error, &text, &KEY)))
    })
}

/// The text of the file, cleared when it is dropped.
fn text(file: &Path) -> Result<Zeroizing<Vec<u8>>, Unusable> {
    fs::read(file).map(Zeroizing::new).map_err(|source| cannot_read(file, source))
}

fn cannot_read(file: &Path, source: io::Error) -> Unusable {
    let kind = source.kind();
    let problem = match kind {
        io::ErrorKind::NotFound if file.is_relative() => {
            "there is no such file; a relative path starts at the working directory (WorkingDirectory= of systemd)"
                .into()
        }
        io::ErrorKind::NotFound => "there is no such file; give the path of one".into(),
        io::ErrorKind::PermissionDenied => format!(
            "this process may not read it; let the user with ID {} read it and pass the directories above it, or let systemd \
             pass it (LoadCredential=)",
            rustix::process::geteuid().as_raw()
        ),
        _ => "it cannot be read".into(),
    };
    let error = Kind::Tls { what: file.display().to_string(), problem, source: Some(source) }.into();
    if kind == io::ErrorKind::NotFound { Unusable::ForNow(error) } else { Unusable::ForGood(error) }
}

/// What is wrong with a text. Of `error` only the kind is shown, because its text may be a line of the file: a key
/// that has lost its line breaks is one line.
fn problem(error: &pem::Error, text: &[u8], wanted: &Wanted) -> String {
    let Wanted { name, label, command } = wanted;
    let labels =
        ["CERTIFICATE", "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "PUBLIC KEY", "CERTIFICATE REQUEST"];
    let other = labels.into_iter().chain(["X509 CRL"]).find(|label| is_in(text, &format!("-----BEGIN {label}-----")));
    match (error, text, other) {
        (pem::Error::MissingSectionEnd { .. }, ..) => {
            "it ends within a section of PEM, or its line breaks are gone; write it again".to_owned()
        }
        (pem::Error::IllegalSectionStart { .. }, ..) => {
            "a line that begins a section of PEM is broken; write it again".to_owned()
        }
        (pem::Error::NoItemsFound, [], _) => format!("it is empty; it has to hold a {name}"),
        (pem::Error::NoItemsFound, [0x30, 0x80..=0xff, ..], _) => {
            format!(
                "it is DER or PKCS #12, and PEM is read; convert it, from DER with `openssl {command} -inform DER -in FILE -out NEW`"
            )
        }
        (pem::Error::NoItemsFound, _, Some(other)) => {
            format!("it holds no {name}, but a section {other}; give the file that has -----BEGIN {label}-----")
        }
        (pem::Error::NoItemsFound, ..) => {
            format!("it holds no {name} in PEM; give a file that has -----BEGIN {label}-----")
        }
        _ => "a section of PEM is not base64; write it again".to_owned(),
    }
}

fn is_in(text: &[u8], what: &str) -> bool {
    text.windows(what.len()).any(|window| window == what.as_bytes())
}

pub(super) fn unusable(file: &Path, problem: impl Into<String>) -> Error {
    Kind::Tls { what: file.display().to_string(), problem: problem.into(), source: None }.into()
}

#[cfg(test)]
mod tests {
    use std::{error::Error as _, path::PathBuf};

    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
    use tempfile::TempDir;

    use super::*;

    /// A certificate and its key.
    fn made() -> (String, String) {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        (cert.pem(), signing_key.serialize_pem())
    }

    fn written(text: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, text).unwrap();
        (folder, file)
    }

    /// The message after the path, and whether the file is read again.
    fn refused<T>(file: &Path, result: Result<T, Unusable>) -> (String, bool) {
        let (error, again) = match result {
            Ok(_) => panic!("it is used"),
            Err(Unusable::ForNow(error)) => (error, true),
            Err(Unusable::ForGood(error)) => (error, false),
        };
        let text = error.to_string();
        (text.strip_prefix(&format!("{}: ", file.display())).expect("it names the file").to_owned(), again)
    }

    fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Unusable> {
        items(file, &CERTIFICATE)
    }

    #[test]
    fn all_certificates_of_a_file_are_read_and_the_first_key() {
        let [(one, key), (two, other)] = [made(), made()];
        let text = [&key, "text\r\n", &one.replace('\n', "\r\n"), &other, &two].concat();
        let (_folder, file) = written(text);
        let expected = [one, two].map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap());
        assert!(certificates(&file).is_ok_and(|certificates| certificates == expected));
        let expected = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        assert!(private_key(&file).is_ok_and(|key| key == expected));
    }

    #[test]
    fn a_file_of_another_kind_is_refused_with_what_it_has() {
        let (certificate, key) = made();
        let (_folder, file) = written(&key);
        let (text, again) = refused(&file, certificates(&file));
        assert_eq!(
            text,
            "it holds no certificate, but a section PRIVATE KEY; give the file that has -----BEGIN CERTIFICATE-----"
        );
        assert!(again);
        let (_folder, file) = written(&certificate);
        let (text, _) = refused(&file, private_key(&file));
        assert!(text.starts_with("it holds no private key, but a section CERTIFICATE; "), "{text}");
        let (text, _) = refused(&file, items::<CertificateRevocationListDer<'_>>(&file, &CRL));
        assert!(text.starts_with("it holds no revocation list, but a section CERTIFICATE; "), "{text}");
    }

    #[test]
    fn a_text_that_is_no_pem_is_refused_with_the_fix() {
        let (certificate, key) = made();
        let der = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        for (text, expected) in [
            (&b""[..], "it is empty; "),
            (b"garbage \xff\n", "it holds no certificate in PEM; give "),
            (&der, "it is DER or PKCS #12, and PEM is read; convert it, from DER with `openssl x509 -inform DER "),
            (&certificate.as_bytes()[..100], "it ends within a section of PEM, "),
            (b"-----BEGIN CERTIFICATE----\nAAAA\n", "a line that begins a section of PEM is broken; "),
            (b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", "a section of PEM is not base64; "),
        ] {
            let (_folder, file) = written(text);
            let (text, again) = refused(&file, certificates(&file));
            assert!(text.starts_with(expected) && again, "{text}");
        }
        let (_folder, file) = written(&key[..60]);
        let (text, again) = refused(&file, private_key(&file));
        assert!(text.starts_with("it ends within a section of PEM, ") && again, "{text}");
    }

    #[test]
    fn an_encrypted_key_is_refused_at_once() {
        for text in [
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n\
             -----END RSA PRIVATE KEY-----\n",
        ] {
            let (_folder, file) = written(text);
            let (text, again) = refused(&file, private_key(&file));
            assert!(text.starts_with("the key is encrypted; decrypt it with `openssl pkey -in "), "{text}");
            assert!(!again);
        }
    }

    /// Without line breaks, the decoder takes the whole key for a label, which its errors show.
    #[test]
    fn no_error_shows_a_line_of_a_key() {
        let (_, key) = made();
        let without_breaks = [key.replace('\n', ""), key.replace('\n', " ")];
        let broken = [key.replace("KEY-----\n", "KEY----"), key.replace('A', "!")];
        for text in without_breaks.into_iter().chain(broken) {
            // As text, and as the bytes that the error of the decoder shows.
            let secret = &text[40..60];
            let bytes = format!("{:?}", secret.as_bytes());
            let (_folder, file) = written(&text);
            let Err(Unusable::ForNow(error) | Unusable::ForGood(error)) = private_key(&file) else {
                panic!("it is used");
            };
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains(secret) && !shown.contains(&bytes[1..bytes.len() - 1]), "{shown}");
        }
    }

    #[test]
    fn a_missing_file_is_read_again_and_one_that_may_not_be_read_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing.pem");
        let Err(Unusable::ForNow(error)) = certificates(&missing) else { panic!("it is not read again") };
        assert_eq!(error.to_string(), format!("{}: there is no such file; give the path of one", missing.display()));
        let source = error.source().and_then(|source| source.downcast_ref::<io::Error>()).unwrap();
        assert_eq!(source.kind(), io::ErrorKind::NotFound);
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::NotFound);

        // Root may read all.
        let (text, again) =
            refused(&missing, Err::<(), _>(cannot_read(&missing, io::ErrorKind::PermissionDenied.into())));
        let user = rustix::process::geteuid().as_raw();
        assert!(
            text.starts_with(&format!("this process may not read it; let the user with ID {user} read it ")),
            "{text}"
        );
        assert!(text.ends_with("(LoadCredential=)") && !again, "{text}");

        let (text, again) =
            refused(Path::new("a.pem"), Err::<(), _>(cannot_read(Path::new("a.pem"), io::ErrorKind::NotFound.into())));
        assert!(text.contains("WorkingDirectory=") && again, "{text}");
        let (text, again) = refused(folder.path(), certificates(folder.path()));
        assert!(text == "it cannot be read" && !again, "{text}");
    }

    #[test]
    fn a_file_is_read_until_it_can_be_used() {
        let mut waits = 0;
        let (left, failing) = (std::cell::Cell::new(3), || Unusable::ForNow(unusable(Path::new("a"), "b")));
        let read = until_usable(&mut || waits += 1, || match left.replace(left.get() - 1) {
            0 => Ok("text"),
            _ => Err(failing()),
        });
        assert_eq!(read.unwrap(), "text");
        assert_eq!(waits, 3);
        waits = 0;
        assert!(until_usable(&mut || waits += 1, || Err::<(), _>(failing())).is_err());
        assert_eq!(waits, READS - 1);
    }
}
