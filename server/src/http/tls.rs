//! TLS: the certificate in use, how it is replaced while the server runs, and the handshake of a connection.
//!
//! The files are read every two seconds and compared with what is in use. Watching them for events would miss what
//! Kubernetes and certbot do, who exchange symbolic links of directories above. New files are checked as a whole before
//! they are used. If anything is wrong with them, the old certificate stays in use. A connection keeps what it began with.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;

use super::certificates::{Contents, Loaded, TlsError, TlsFiles, Validity};

/// HTTP/2 in the handshake (ALPN).
pub(super) const HTTP2: &[u8] = b"h2";
/// How often the files are read.
const LOOK: Duration = Duration::from_secs(2);
/// A certificate that is valid for less than this is warned about,
const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);
/// and again after this time.
const AGAIN: Duration = Duration::from_secs(24 * 60 * 60);

/// TLS with the certificate that some files hold.
pub struct Tls {
    files: TlsFiles,
    config: RwLock<Arc<ServerConfig>>,
    state: Mutex<State>,
    /// The files are to be read at once.
    asked: Notify,
}

struct State {
    /// What the certificate in use was made of.
    used: Contents,
    validity: Validity,
    /// What the files held at the last look, if that is something else.
    seen: Option<Contents>,
    /// What was logged about files that cannot be used.
    told: Option<String>,
    /// When it was last logged that the certificate in use expires.
    warned: Option<Instant>,
}

impl Tls {
    /// Reads the files. A certificate that has expired is used all the same: [`crate::run`] logs it.
    ///
    /// # Errors
    /// They cannot be read, or cannot be used together.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let used = files.read()?;
        let Loaded { config, validity } = files.load(&used)?;
        let state = State { used, validity, seen: None, told: None, warned: None };
        Ok(Self { files, config: RwLock::new(config), state: Mutex::new(state), asked: Notify::new() })
    }

    /// Has the files read at once, and logs what became of them.
    pub fn reload(&self) {
        self.asked.notify_one();
    }

    /// What is wrong with the certificate in use at this time, if anything is, and how long it is still valid.
    pub fn validity(&self, now: SystemTime) -> (Option<&'static str>, Duration) {
        let validity = self.state.lock().validity;
        (validity.fault(now), validity.left(now))
    }

    /// When the certificate in use ends, or the first of those behind it: the time since 1970.
    pub(crate) fn end(&self) -> Duration {
        self.state.lock().validity.end()
    }

    /// What new connections use.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config.read())
    }

    /// Reads the files every now and then and when asked to, until `end`.
    pub(crate) async fn keep(self: Arc<Self>, end: CancellationToken) {
        let mut is_asked = false;
        loop {
            let tls = Arc::clone(&self);
            // The files may be on a disk that does not answer, which must not keep the server from ending.
            let looking = tokio::task::spawn_blocking(move || tls.look(is_asked, SystemTime::now()));
            tokio::select! {
                () = end.cancelled() => return,
                looked = looking => if looked.is_err() {
                    tracing::error!("reading the files of TLS failed");
                },
            }
            is_asked = tokio::select! {
                () = end.cancelled() => return,
                () = self.asked.notified() => true,
                () = tokio::time::sleep(LOOK) => false,
            };
        }
    }

    /// Reads the files, and uses them if they have changed and can be used.
    fn look(&self, is_asked: bool, now: SystemTime) {
        let mut state = self.state.lock();
        match self.renewed(&mut state, is_asked, now) {
            Ok(None) => {}
            Ok(Some(config)) => {
                *self.config.write() = config;
                tracing::info!(days_left = days(state.validity.left(now)), "the new files of TLS are in use");
            }
            Err(error) => state.tell(&error, is_asked),
        }
        state.warn(now);
    }

    /// A configuration of the files, if they hold something else than what is in use. Unless somebody asks, it must be
    /// there twice in a row: of several files that are being replaced, some are still the old ones.
    fn renewed(
        &self,
        state: &mut State,
        is_asked: bool,
        now: SystemTime,
    ) -> Result<Option<Arc<ServerConfig>>, TlsError> {
        let contents = self.files.read()?;
        if contents == state.used {
            if is_asked {
                tracing::info!("the files of TLS hold what is in use");
            }
            (state.seen, state.told) = (None, None);
            return Ok(None);
        }
        if !is_asked && state.seen.as_ref() != Some(&contents) {
            state.seen = Some(contents);
            return Ok(None);
        }
        let Loaded { config, validity } = self.files.load(&contents)?;
        // A certificate that is in use already stays in use although it is expired. So the authority of clients can be
        // replaced at any time.
        if let Some(fault) = validity.fault(now).filter(|_| !contents.has_certificate_of(&state.used)) {
            return Err(TlsError::Time(self.files.certificate.clone(), fault));
        }
        *state = State { used: contents, validity, seen: None, told: None, warned: None };
        Ok(Some(config))
    }
}

impl State {
    /// Logs why files are not used: once, and whenever somebody asks.
    fn tell(&mut self, error: &TlsError, is_asked: bool) {
        let text = error.in_full();
        if is_asked || self.told.as_ref() != Some(&text) {
            tracing::error!(error = text, "the new files of TLS cannot be used: what was in use before stays");
            self.told = Some(text);
        }
    }

    /// Logs that the certificate in use is not valid, or not for long.
    fn warn(&mut self, now: SystemTime) {
        let (fault, left) = (self.validity.fault(now), self.validity.left(now));
        let is_due = self.warned.is_none_or(|warned| warned.elapsed() >= AGAIN);
        if !is_due || (fault.is_none() && left >= SOON) {
            return;
        }
        self.warned = Some(Instant::now());
        match fault {
            Some(fault) => tracing::error!("the TLS certificate is {fault}: clients refuse it"),
            None => tracing::warn!(days_left = days(left), "the TLS certificate expires soon: renew it"),
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

fn days(time: Duration) -> u64 {
    time.as_secs() / (24 * 60 * 60)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    /// Certificates that sign themselves, in a directory of their own.
    struct Files {
        directory: tempfile::TempDir,
        now: SystemTime,
    }

    /// A certificate and its key, in PEM.
    struct Issued(String, String);

    impl Files {
        fn new() -> Self {
            Self { directory: tempfile::tempdir().expect("a temporary folder"), now: SystemTime::now() }
        }

        /// A certificate that is valid from yesterday until then.
        fn issue(&self, until: SystemTime) -> Issued {
            let key = KeyPair::generate().expect("there is randomness");
            let mut parameters = CertificateParams::new(["localhost".to_owned()]).expect("a good name");
            (parameters.not_before, parameters.not_after) = ((self.now - DAY).into(), until.into());
            let certificate = parameters.self_signed(&key).expect("good parameters");
            Issued(certificate.pem(), key.serialize_pem())
        }

        fn path(&self, name: &str) -> std::path::PathBuf {
            Path::join(self.directory.path(), name)
        }

        fn write(&self, certificate: &str, key: &str) {
            std::fs::write(self.path("crt"), certificate).expect("the folder is ours");
            std::fs::write(self.path("key"), key).expect("the folder is ours");
        }

        fn load(&self) -> Result<Tls, TlsError> {
            Tls::load(TlsFiles { certificate: self.path("crt"), key: self.path("key"), client_ca: None })
        }
    }

    /// Whether a look exchanges the configuration.
    fn renews(tls: &Tls, is_asked: bool, now: SystemTime) -> bool {
        let before = tls.config();
        tls.look(is_asked, now);
        !Arc::ptr_eq(&before, &tls.config())
    }

    #[test]
    fn files_that_are_being_replaced_are_left_alone() {
        let files = Files::new();
        let (old, new) = (files.issue(files.now + 99 * DAY), files.issue(files.now + 99 * DAY));
        files.write(&old.0, &old.1);
        let tls = files.load().expect("good files");
        assert!(!renews(&tls, false, files.now), "nothing has changed");
        files.write(&new.0, &old.1);
        assert!(!renews(&tls, false, files.now));
        assert!(tls.state.lock().told.is_none(), "the key may be on its way");
        files.write(&new.0, &new.1);
        assert!(!renews(&tls, false, files.now), "it may not be all");
        assert!(renews(&tls, false, files.now));
        files.write(&old.0, &old.1);
        assert!(renews(&tls, true, files.now), "who asks knows that it is all");
    }

    #[test]
    fn a_certificate_is_used_once_it_is_valid() {
        let files = Files::new();
        let (old, new) = (files.issue(files.now + DAY), files.issue(files.now + 99 * DAY));
        files.write(&old.0, &old.1);
        let tls = files.load().expect("good files");
        files.write(&new.0, &new.1);
        let (early, late) = (files.now - 3 * DAY, files.now + 100 * DAY);
        assert!(!renews(&tls, true, early) && !renews(&tls, true, late));
        assert!(tls.state.lock().told.as_ref().is_some_and(|told| told.ends_with("is expired")));
        assert!(renews(&tls, true, files.now));
        assert!(tls.state.lock().told.is_none());
    }

    #[test]
    fn an_authority_is_replaced_although_the_certificate_is_expired() {
        let files = Files::new();
        let (server, [first, second]) =
            (files.issue(files.now + DAY), [(); 2].map(|()| files.issue(files.now + 99 * DAY).0));
        files.write(&server.0, &server.1);
        let authorities = |pem: &str| std::fs::write(files.path("ca"), pem).expect("the folder is ours");
        authorities(&first);
        let (certificate, key) = (files.path("crt"), files.path("key"));
        let tls = Tls::load(TlsFiles { certificate, key, client_ca: Some(files.path("ca")) }).expect("good files");
        authorities(&second);
        assert!(renews(&tls, true, files.now + 2 * DAY));
        assert!(tls.state.lock().told.is_none());
    }

    #[test]
    fn a_chain_is_valid_as_long_as_each_certificate_of_it() {
        let files = Files::new();
        let (first, second) = (files.issue(files.now + 99 * DAY), files.issue(files.now + 5 * DAY));
        files.write(&format!("{}{}", first.0, second.0), &first.1);
        let tls = files.load().expect("good files");
        let end = files.now + 5 * DAY - Duration::from_secs(1);
        assert!(tls.end() > end.duration_since(SystemTime::UNIX_EPOCH).expect("it is later") - Duration::from_secs(1));
        let state = tls.state.lock();
        assert_eq!(days(state.validity.left(files.now)), 4, "5 days less what a date cannot tell");
        assert_eq!(state.validity.fault(files.now), None);
        assert_eq!(state.validity.fault(files.now - 2 * DAY), Some("not valid yet"));
        assert_eq!(state.validity.fault(files.now + 6 * DAY), Some("expired"));
    }

    #[tokio::test]
    async fn files_that_cannot_be_read_to_their_end_hold_up_nobody() {
        let files = Files::new();
        let issued = files.issue(files.now + 99 * DAY);
        files.write(&issued.0, &issued.1);
        let (tls, end) = (Arc::new(files.load().expect("good files")), CancellationToken::new());
        let path = files.path("crt");
        std::fs::remove_file(&path).expect("it is there");
        // Who opens a pipe for reading waits for somebody who writes.
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.is_ok_and(|status| status.success()), "mkfifo makes a pipe");
        let keeping = tokio::spawn(Arc::clone(&tls).keep(end.clone()));
        while tls.state.try_lock().is_some() {
            tokio::task::yield_now().await;
        }
        end.cancel();
        keeping.await.expect("it ends");
        // The look ends, too, so that the test can.
        std::fs::write(&path, "").expect("somebody reads");
    }

    #[test]
    fn the_key_is_in_no_error() {
        let files = Files::new();
        let issued = files.issue(files.now + DAY);
        for spoilt in [
            issued.1.replace("-----END", "-----AND"),
            issued.1.replace("KEY-----\n", "KEY----\n"),
            issued.1.replace('M', "!"),
        ] {
            files.write(&issued.0, &spoilt);
            let error = files.load().expect_err("the key is spoilt");
            let text = format!("{} {error:?}", error.in_full());
            assert!(text.len() < 600 && !issued.1.lines().skip(1).any(|line| text.contains(line)), "{text}");
        }
    }
}
