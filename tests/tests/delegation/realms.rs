//! Starts the two realms that the tests of this binary share, one of each kind.

use std::path::Path;
use std::sync::OnceLock;

use kerbridge_tests::delegation::{DelegationRealm, Kind};

/// How many users there are beside the named ones.
pub(crate) const CROWD: usize = 50;
/// One more, whose account is closed by a test.
pub(crate) const LEAVER: usize = CROWD;

static MIT: OnceLock<DelegationRealm> = OnceLock::new();
static SAMBA: OnceLock<DelegationRealm> = OnceLock::new();

pub(crate) fn mit() -> &'static DelegationRealm {
    MIT.get_or_init(|| start(Kind::Mit))
}

pub(crate) fn samba() -> &'static DelegationRealm {
    SAMBA.get_or_init(|| start(Kind::Samba))
}

/// It ends with this process; its folder, which nothing can remove then, is removed by the next run.
fn start(kind: Kind) -> DelegationRealm {
    let record = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("delegation-folder-{kind:?}"));
    if let Ok(last) = std::fs::read_to_string(&record)
        && last.contains("/kerbridge-")
    {
        // It may have been removed by hand.
        drop(std::fs::remove_dir_all(last));
    }
    let realm = DelegationRealm::start(kind, CROWD + 1).unwrap();
    std::fs::write(record, realm.folder().as_os_str().as_encoded_bytes()).unwrap();
    realm
}
