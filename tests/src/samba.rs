//! Runs a real Samba domain controller on a loopback address of its own: a KDC whose tickets say groups, and its directory.
//!
//! An Active Directory KDC listens on port 88 and no other, so this needs root. Provisioning takes some seconds: the tests of
//! one binary share a domain.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use serde::Serialize;
use tempfile::TempDir;

use crate::certificates::Certificates;
use crate::error::HarnessError;
use crate::kdc::{Ccache, Kdc, password_file};
use crate::process::{OwnedProcess, Spawn, find_program};
use crate::tool::{self, write};

/// The domain's realm.
pub const REALM: &str = "AD.TEST";
/// The service whose keytab it makes: curl makes the name of the URL's host.
pub const SERVICE: &str = "HTTP/localhost@AD.TEST";
/// Everybody's password.
pub const PASSWORD: &str = "Correct-horse-7";
/// Its name of days before Kerberos.
const DOMAIN: &str = "ADT";
/// The account that the service is.
pub(crate) const SERVICE_ACCOUNT: &str = "web";
/// Debian's own interpreter: the bindings are for no other.
const PYTHON: &str = "/usr/bin/python3";

const START: Duration = Duration::from_secs(60);
const KERBEROS: u16 = 88;
const LDAPS: u16 = 636;

/// What is to be done to a directory, in this order.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Plan {
    /// Accounts to add.
    pub users: Vec<String>,
    /// Machines to add, by their names without the `$` that their accounts have at the end.
    pub computers: Vec<String>,
    /// Global groups to add.
    pub groups: Vec<String>,
    /// Domain-local groups to add.
    pub local_groups: Vec<String>,
    /// Group and member, which may be a group.
    pub members: Vec<(String, String)>,
    /// Account, attribute and its new value.
    pub attributes: Vec<(String, String, String)>,
    /// Account, attribute and one more value of it.
    pub added: Vec<(String, String, String)>,
    /// Account, attribute and the value of it to take away.
    pub removed: Vec<(String, String, String)>,
    /// Accounts that get new keys, of the encryption types that they have then.
    pub rekeyed: Vec<String>,
    /// Account, and the account that may act for users towards it: resource-based delegation
    /// (`msDS-AllowedToActOnBehalfOfOtherIdentity`).
    pub resource_delegates: Vec<(String, String)>,
    /// Principal, and the file in [`Samba::folder`] that gets its keys, in the end.
    pub keytabs: Vec<(String, String)>,
}

/// A domain of its own, with the service [`SERVICE`].
#[derive(Debug)]
pub struct Samba {
    // Dropped in this order: the process, then its folder.
    process: OwnedProcess,
    address: Ipv4Addr,
    clients: Kdc,
    certificates: Certificates,
    sids: BTreeMap<String, String>,
    folder: TempDir,
}

impl Samba {
    /// Provisions a domain, does what the plan says, makes the service and its keytab, and starts the controller.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Io`] where port 88 is not to be had, which takes root; [`HarnessError::ProgramMissing`] without the
    /// packages; or what the tools said.
    pub fn start(mut plan: Plan) -> Result<Self, HarnessError> {
        let address = free_address()?;
        let folder = tempfile::Builder::new()
            .prefix("kerbridge-samba-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir()
            .map_err(|source| HarnessError::io("create the domain's folder", source))?;
        let at = |name: &str| folder.path().join(name);
        let smb_conf = at("etc/smb.conf");
        provision(folder.path(), address)?;
        let certificates = Certificates::create_for(&address.to_string(), folder.path())?;
        // It refuses a key that others can read.
        std::fs::set_permissions(&certificates.private_key, Permissions::from_mode(0o600))
            .map_err(|source| HarnessError::io("close the controller's private key", source))?;
        write(&smb_conf, configuration(folder.path(), address, &certificates))?;
        for name in ["run", "run/winbindd"] {
            std::fs::create_dir_all(at(name))
                .map_err(|source| HarnessError::io("create the domain's folders", source))?;
        }
        write(&at("realm"), REALM)?;
        write(&at("krb5.conf"), krb5_conf(folder.path(), address))?;

        let service = SERVICE.strip_suffix("@AD.TEST").unwrap_or(SERVICE);
        plan.users.push(SERVICE_ACCOUNT.to_owned());
        // AES alone (MS-KILE §2.2.7): without it the account's keys are RC4.
        for (attribute, value) in [
            ("msDS-SupportedEncryptionTypes", "24"),
            ("servicePrincipalName", service),
        ] {
            let change = [SERVICE_ACCOUNT, attribute, value].map(str::to_owned);
            let [account, attribute, value] = change;
            plan.attributes.push((account, attribute, value));
        }
        plan.rekeyed.push(SERVICE_ACCOUNT.to_owned());
        plan.keytabs.push((service.to_owned(), "http.keytab".to_owned()));
        let sids = change(folder.path(), &plan)?;
        for user in &plan.users {
            write(&at(&password_file(user)), PASSWORD)?;
        }
        // A machine that has not joined yet has its name for a password; it is found by that name, too.
        for machine in &plan.computers {
            for name in [machine.clone(), format!("{machine}$")] {
                write(&at(&password_file(&name)), machine.to_lowercase())?;
            }
        }
        let process = serve(folder.path(), &smb_conf, address)?;
        Ok(Self {
            process,
            address,
            clients: Kdc::attach(folder.path())?,
            certificates,
            sids,
            folder,
        })
    }

    /// The controller's address, of 127.0.0.0/8. Its directory is on ports 389 and 636.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The realm as its clients see it: their krb5.conf, and `kinit`.
    #[must_use]
    pub fn clients(&self) -> &Kdc {
        &self.clients
    }

    /// The keytab of [`SERVICE`].
    #[must_use]
    pub fn keytab(&self) -> PathBuf {
        self.folder.path().join("http.keytab")
    }

    /// The authority of the directory's certificate, in PEM.
    #[must_use]
    pub fn authority(&self) -> &Path {
        &self.certificates.authority
    }

    /// Logs a user in, with a cache of its own.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Exited`] with what `kinit` said.
    pub fn kinit(&self, user: &str) -> Result<Ccache, HarnessError> {
        self.clients.kinit(user)
    }

    /// The security identifier of an account or group that was there when the domain started.
    ///
    /// # Errors
    ///
    /// [`HarnessError::UnexpectedAnswer`] for a name that is none.
    pub fn sid(&self, name: &str) -> Result<&str, HarnessError> {
        let known = self.sids.get(name).map(String::as_str);
        known.ok_or_else(|| HarnessError::UnexpectedAnswer {
            what: "a name of the domain".to_owned(),
            answer: name.to_owned(),
        })
    }

    /// The distinguished name of an account or group.
    #[must_use]
    pub fn dn(&self, name: &str) -> String {
        format!("CN={name},CN=Users,DC=ad,DC=test")
    }

    /// Changes the running domain.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Exited`] with what Samba said.
    pub fn change(&self, plan: &Plan) -> Result<(), HarnessError> {
        change(self.folder.path(), plan).map(drop)
    }

    /// How many requests its KDC has answered so far, of both kinds, refused ones too.
    #[must_use]
    pub fn requests(&self) -> usize {
        let log = self.process.log();
        let asked = log.lines().filter(|line| line.contains(" from ipv4:"));
        asked
            .filter(|line| line.contains("AS-REQ ") || line.contains("TGS-REQ "))
            .count()
    }

    /// Ends the controller before its owner does: tickets that were issued stay good, new ones are not to be had.
    ///
    /// # Errors
    ///
    /// [`HarnessError::TimedOut`] when it does not end.
    pub fn stop(&mut self) -> Result<(), HarnessError> {
        self.process.terminate().map(drop)
    }

    /// Starts the controller again at its address, after [`Samba::stop`]. What was logged before is gone.
    ///
    /// # Errors
    ///
    /// As [`Samba::start`].
    pub fn start_again(&mut self) -> Result<(), HarnessError> {
        let folder = self.folder.path();
        self.process = serve(folder, &folder.join("etc/smb.conf"), self.address)?;
        Ok(())
    }

    /// Its process's number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its process, to freeze it.
    pub fn process(&mut self) -> &mut OwnedProcess {
        &mut self.process
    }

    /// The folder, which outlives a process that ends without dropping this.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// An address of 127.0.0.0/8 on which nobody listens at the ports of a controller. Seconds pass before this one does, so each
/// domain of this process looks from another one on.
fn free_address() -> Result<Ipv4Addr, HarnessError> {
    static DOMAINS: AtomicU8 = AtomicU8::new(0);
    let first = DOMAINS
        .fetch_add(1, Ordering::Relaxed)
        .wrapping_rem(100)
        .saturating_add(20);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let mut last = std::io::Error::from(std::io::ErrorKind::AddrInUse);
    for net in first..first.saturating_add(100) {
        let address = Ipv4Addr::new(127, net, high, low.max(1));
        match [KERBEROS, LDAPS].map(|port| TcpListener::bind(SocketAddrV4::new(address, port))) {
            [Ok(_), Ok(_)] => return Ok(address),
            [Err(error), _] | [_, Err(error)] => last = error,
        }
    }
    Err(HarnessError::io(
        "listen on port 88 of a loopback address, as a domain controller must (the Samba tests run as root)",
        last,
    ))
}

fn provision(folder: &Path, address: Ipv4Addr) -> Result<(), HarnessError> {
    samba_tool(&[
        "domain",
        "provision",
        &format!("--realm={REALM}"),
        &format!("--domain={DOMAIN}"),
        "--host-name=dc",
        "--server-role=dc",
        "--dns-backend=NONE",
        &format!("--adminpass={PASSWORD}"),
        &format!("--targetdir={}", folder.display()),
        &format!("--option=interfaces={address}/8"),
        "--option=bind interfaces only=yes",
    ])
}

fn configuration(folder: &Path, address: Ipv4Addr, certificates: &Certificates) -> String {
    let (at, shown) = (folder.display(), |path: &Path| path.display().to_string());
    format!(
        "[global]\n\
         realm = {REALM}\n\
         workgroup = {DOMAIN}\n\
         netbios name = DC\n\
         server role = active directory domain controller\n\
         server services = kdc, ldap\n\
         interfaces = {address}/8\n\
         bind interfaces only = yes\n\
         logging = file\n\
         log level = 1 kerberos:3\n\
         private dir = {at}/private\n\
         state directory = {at}/state\n\
         cache directory = {at}/cache\n\
         lock directory = {at}\n\
         binddns dir = {at}/bind-dns\n\
         pid directory = {at}/run\n\
         ncalrpc dir = {at}/run/ncalrpc\n\
         winbindd socket directory = {at}/run/winbindd\n\
         ldap server require strong auth = no\n\
         tls enabled = yes\n\
         tls cafile = {}\n\
         tls certfile = {}\n\
         tls keyfile = {}\n",
        shown(&certificates.authority),
        shown(&certificates.certificate),
        shown(&certificates.private_key),
    )
}

fn krb5_conf(folder: &Path, address: Ipv4Addr) -> String {
    let at = folder.display();
    format!(
        "[libdefaults]\n\
         default_realm = {REALM}\n\
         dns_lookup_kdc = false\n\
         dns_lookup_realm = false\n\
         dns_canonicalize_hostname = false\n\
         rdns = false\n\
         qualify_shortname = \"\"\n\
         udp_preference_limit = 1\n\
         default_ccache_name = FILE:{at}/no-default-ccache\n\
         default_keytab_name = FILE:{at}/no-default-keytab\n\
         [realms]\n\
         {REALM} = {{\n\
         kdc = {address}:{KERBEROS}\n\
         }}\n\
         [domain_realm]\n\
         localhost = {REALM}\n\
         .localhost = {REALM}\n"
    )
}

fn serve(folder: &Path, smb_conf: &Path, address: Ipv4Addr) -> Result<OwnedProcess, HarnessError> {
    let spawn = Spawn::new("samba", folder)
        .args(["-i", "-M", "single", "--debug-stdout", "-s"])
        .arg(smb_conf)
        .env("TDB_NO_FSYNC", "1");
    let mut process = OwnedProcess::start(spawn)?;
    let listens = |port| TcpStream::connect(SocketAddrV4::new(address, port)).is_ok();
    process.wait_alive_until("a domain controller that listens", START, |_| {
        [KERBEROS, LDAPS].into_iter().all(listens)
    })?;
    Ok(process)
}

fn change(folder: &Path, plan: &Plan) -> Result<BTreeMap<String, String>, HarnessError> {
    let mut document = serde_json::json!(plan);
    if let Some(members) = document.as_object_mut() {
        members.insert("password".to_owned(), PASSWORD.into());
    }
    let mut python = Command::new(find_program(PYTHON)?);
    python.args(["-c", include_str!("samba/directory.py")]).arg(folder);
    let printed = run("directory.py", python, document.to_string().as_bytes())?;
    serde_json::from_str(&printed).map_err(|error| HarnessError::UnexpectedAnswer {
        what: "directory.py".to_owned(),
        answer: format!("{printed} ({error})"),
    })
}

fn samba_tool(arguments: &[&str]) -> Result<(), HarnessError> {
    let mut command = Command::new(find_program("samba-tool")?);
    command.args(arguments);
    run("samba-tool", command, b"").map(drop)
}

/// Nothing here need survive a power cut, and syncing takes most of the time.
fn run(name: &str, mut command: Command, input: &[u8]) -> Result<String, HarnessError> {
    let output = tool::run(name, command.env("TDB_NO_FSYNC", "1"), input)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
