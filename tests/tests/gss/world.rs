//! Gives each test a realm of its own and a process of its own.
//!
//! `KRB5_CONFIG` belongs to the process and tests run as threads of one. So a test, called by libtest, starts a KDC and runs
//! its own binary again, for this one test, with the realm's environment; there the body runs. Other clocks work the same
//! way: a role is an ignored test that a body runs in one more process, under `faketime`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kerbridge_gss::{
    AcceptError, AcceptOutcome, AcceptorCredential, ChannelBindings, EstablishedContext, InitiateRequest,
    InitiatorCredential, MechToken, Mechanism, ServicePrincipal,
};
use kerbridge_tests::kdc::{Ccache, Kdc};
use kerbridge_tests::process::{OwnedProcess, Spawn};
use kerbridge_tests::shifted_clock;

const FOLDER: &str = "KERBRIDGE_GSS_FOLDER";
const CCACHE: &str = "KERBRIDGE_GSS_CCACHE";
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) const HTTP: &str = "HTTP/localhost@LAB.TEST";
pub(crate) const OTHER: &str = "HTTP/other.localhost@LAB.TEST";

/// A realm with the user alice and two services, the keytab of one of them, and a folder for all that.
pub(crate) struct World {
    pub(crate) kdc: Kdc,
}

/// Runs `body` in a fresh realm. `test` is the path of the calling test, as libtest names it.
pub(crate) fn in_world(test: &str, body: fn(&World)) {
    if let Some(folder) = std::env::var_os(FOLDER) {
        body(&World::open(folder.as_ref()));
        std::fs::write(Path::new(&folder).join("passed"), test).unwrap();
        return;
    }
    let kdc = Kdc::start("LAB.TEST").unwrap();
    kdc.add_user("alice", "correct horse").unwrap();
    kdc.kadmin("addprinc -randkey HTTP/localhost\naddprinc -randkey HTTP/other.localhost")
        .unwrap();
    let world = World { kdc };
    world.kdc.extract_keytab(&[HTTP], &world.keytab()).unwrap();
    world.run_again(test, "child", None, &[]);
    // A name with a slip would run no test, and that succeeds.
    assert_eq!(std::fs::read_to_string(world.file("passed")).unwrap(), test);
}

impl World {
    fn open(folder: &Path) -> Self {
        Self {
            kdc: Kdc::attach(folder).unwrap(),
        }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.kdc.folder().join(name)
    }

    /// The keytab that holds the keys of [`HTTP`] as they were when the test began.
    pub(crate) fn keytab(&self) -> PathBuf {
        self.file("http.keytab")
    }

    pub(crate) fn acceptor(&self) -> AcceptorCredential {
        self.acceptor_of(HTTP, &self.keytab())
    }

    pub(crate) fn acceptor_of(&self, service: &str, keytab: &Path) -> AcceptorCredential {
        AcceptorCredential::acquire(&service_principal(service), keytab, &self.file("rcache")).unwrap()
    }

    pub(crate) fn alice(&self) -> InitiatorCredential {
        InitiatorCredential::from_ccache(self.kdc.kinit("alice").unwrap().path()).unwrap()
    }

    /// A first token of alice's for [`HTTP`].
    pub(crate) fn token(&self, mechanism: Mechanism) -> MechToken {
        token(&self.alice(), &request(HTTP, mechanism))
    }

    /// A token from a client whose clock is off by `offset` (`+10m`), with a ticket that `ccache` already holds.
    pub(crate) fn token_at(&self, offset: &str, ccache: &Ccache) -> MechToken {
        let ccache = ccache.path().to_str().unwrap();
        self.run_again("world::role_initiate", "initiator", Some(offset), &[(CCACHE, ccache)]);
        MechToken::new(std::fs::read(self.file("token")).unwrap()).unwrap()
    }

    /// What an acceptor whose clock is off by `offset` makes of a token: the kind of its refusal, or who came and by how many
    /// seconds the ticket has ended.
    pub(crate) fn accept_at(&self, offset: &str, token: &MechToken) -> String {
        std::fs::write(self.file("token"), token.as_bytes()).unwrap();
        self.run_again("world::role_accept", "acceptor", Some(offset), &[]);
        std::fs::read_to_string(self.file("outcome")).unwrap()
    }

    /// Runs this binary for one test, with the realm's environment.
    fn run_again(&self, test: &str, name: &str, offset: Option<&str>, more: &[(&str, &str)]) {
        let binary = std::env::current_exe().unwrap();
        let spawn = match offset {
            Some(offset) => {
                let [env, library, offset] = shifted_clock::by(offset);
                Spawn::new(env, self.kdc.folder()).args([library, offset]).arg(binary)
            }
            None => Spawn::new(binary, self.kdc.folder()),
        };
        let spawn = spawn
            .name(name)
            .args([test, "--exact", "--include-ignored", "--nocapture", "--test-threads=1"])
            .env(FOLDER, self.kdc.folder())
            .env("KRB5_CONFIG", self.kdc.krb5_config())
            .env("KRB5_KDC_PROFILE", self.kdc.kdc_profile())
            .envs(more.iter().copied());
        let mut process = OwnedProcess::start(spawn).unwrap();
        let status = process.wait_exit(LIMIT).unwrap();
        assert!(status.success(), "{test}\n{}", process.log());
    }
}

pub(crate) fn service_principal(text: &str) -> ServicePrincipal {
    ServicePrincipal::parse(text).unwrap()
}

/// A request for mutual authentication, unbound.
pub(crate) fn request(target: &str, mechanism: Mechanism) -> InitiateRequest {
    InitiateRequest {
        target: service_principal(target),
        mechanism,
        mutual: true,
        bindings: None,
    }
}

pub(crate) fn token(credential: &InitiatorCredential, request: &InitiateRequest) -> MechToken {
    credential.initiate(request).unwrap().token
}

/// Accepts what must be accepted, in one leg.
pub(crate) fn established(
    acceptor: &AcceptorCredential,
    token: &MechToken,
    bindings: Option<&ChannelBindings>,
) -> EstablishedContext {
    match acceptor.accept(token.as_bytes(), bindings) {
        Ok(AcceptOutcome::Established(context)) => context,
        other => panic!("not established: {other:?}"),
    }
}

/// Refuses what must be refused.
pub(crate) fn refused(acceptor: &AcceptorCredential, token: &[u8]) -> AcceptError {
    acceptor.accept(token, None).expect_err("the token was accepted")
}

#[expect(
    clippy::disallowed_methods,
    reason = "compares a ticket's end with the clock of the process that accepts it"
)]
pub(crate) fn now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

#[test]
#[ignore = "a role, run by tests under another clock"]
fn role_initiate() {
    let Some(ccache) = std::env::var_os(CCACHE) else { return };
    let world = World::open(std::env::var_os(FOLDER).unwrap().as_ref());
    let alice = InitiatorCredential::from_ccache(ccache.as_ref()).unwrap();
    let token = token(&alice, &request(HTTP, Mechanism::Spnego));
    std::fs::write(world.file("token"), token.as_bytes()).unwrap();
}

#[test]
#[ignore = "a role, run by tests under another clock"]
fn role_accept() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let world = World::open(folder.as_ref());
    let token = std::fs::read(world.file("token")).unwrap();
    let outcome = match world.acceptor().accept(&token, None) {
        Ok(AcceptOutcome::Established(context)) => {
            format!(
                "{} ended {} s ago",
                context.initiator(),
                now().saturating_sub(context.ticket_end())
            )
        }
        Ok(AcceptOutcome::ContinueNeeded { .. }) => "continue needed".to_owned(),
        Err(error) => format!("{:?}", error.kind()),
    };
    std::fs::write(world.file("outcome"), outcome).unwrap();
}
