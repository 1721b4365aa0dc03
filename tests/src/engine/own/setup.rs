//! Says what the lab is made of, and of which versions.

use std::path::Path;

use super::{Lab, Store};
use crate::broker::find_kerbridge;
use crate::delegation::Kind;
use crate::engine::versions;
use crate::report::model::{self, Setup};

impl Lab {
    pub(in crate::engine) fn setup(&mut self) -> Setup {
        let mut versions = vec![("Envoy".to_owned(), self.world.envoy().version().unwrap_or_default())];
        let kerbridge = find_kerbridge().unwrap_or_default();
        let kdc = match self.choice.kdc {
            Kind::Mit => None,
            Kind::Samba => Some(("Samba", Path::new("samba"), "--version")),
        };
        let programs = [
            ("kerbridge", kerbridge.as_path(), "--version"),
            ("MIT krb5", Path::new("klist"), "-V"),
            ("curl", Path::new("curl"), "--version"),
        ];
        versions.extend(versions::of(programs.into_iter().chain(kdc)));
        if let Some(server) = &self.database {
            let said = server.sql("postgres", "SHOW server_version").unwrap_or_default();
            versions.push(("PostgreSQL".to_owned(), said));
        }
        Setup {
            kdc: match self.choice.kdc {
                Kind::Mit => model::Kdc::Mit,
                Kind::Samba => model::Kdc::Samba,
            },
            brokers: self.choice.brokers,
            store: match self.choice.store {
                Store::Redb => model::Store::Redb,
                Store::Postgres => model::Store::Postgres,
            },
            yours: false,
            broken: self.choice.broken.map(|broken| broken.told().to_owned()),
            versions,
        }
    }
}
