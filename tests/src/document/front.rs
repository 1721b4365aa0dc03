//! Puts Envoy in front of a service as the first pages say: the shipped configuration, changed by the table that a page shows.

use std::path::{Path, PathBuf};

use super::{Block, Reader, quoted, tables, text_of};
use crate::certificates::Certificates;
use crate::envoy::{Envoy, EnvoyOptions};
use crate::error::HarnessError;
use crate::shipped::ShippedYaml;
use crate::upstream::Upstream;

/// The page that has the table.
const PAGE: &str = "docs/active-directory.md";
/// Its header.
const TABLE: &str = "in envoy.yaml";
/// The entry of the filter.
const ENTRY: &str = "- name: kerbridge";

/// A service behind an Envoy that is started when a reader is about to ask it.
pub struct Front {
    // Dropped in this order: who calls, then who is called, the folder of both last.
    envoy: Option<Envoy>,
    upstream: Upstream,
    certificates: Certificates,
    host: String,
    folder: PathBuf,
}

impl Front {
    /// A service, and a certificate of this host; the reader's curl trusts it.
    ///
    /// # Errors
    ///
    /// Every [`HarnessError`].
    pub fn prepare(reader: &mut Reader, folder: &Path, host: &str) -> Result<Self, HarnessError> {
        let tls = folder.join("tls");
        std::fs::create_dir_all(&tls).map_err(|source| HarnessError::io("create a folder for certificates", source))?;
        let certificates = Certificates::create_for(host, &tls)?;
        reader.set("CURL_CA_BUNDLE", &certificates.authority);
        Ok(Self {
            envoy: None,
            upstream: Upstream::start()?,
            certificates,
            host: host.to_owned(),
            folder: folder.to_owned(),
        })
    }

    /// Gets everything ready that this block needs: `envoy.yaml`, where it validates it; a running Envoy, where it asks one.
    ///
    /// # Errors
    ///
    /// Every [`HarnessError`].
    pub fn before(&mut self, reader: &Reader, block: &Block) -> Result<(), HarnessError> {
        let (validates, asks) = (block.text.contains("envoy --mode"), block.text.contains("curl -i"));
        if validates || (asks && self.envoy.is_none()) {
            let yaml = self.fitted(reader)?;
            let path = self.folder.join("envoy.yaml");
            std::fs::write(&path, &yaml).map_err(|source| HarnessError::io("write envoy.yaml", source))?;
            if asks {
                self.start(&yaml)?;
            }
        }
        Ok(())
    }

    fn start(&mut self, yaml: &str) -> Result<(), HarnessError> {
        let options = EnvoyOptions {
            folder: Some(self.folder.clone()),
            ..EnvoyOptions::default()
        };
        let envoy = Envoy::start(yaml, &options)?;
        let port = envoy.listener_port("https")?;
        self.envoy = Some(envoy);
        // The address in the document stays what it is; the name is nobody's here.
        let line = format!("connect-to = \"{}:443:127.0.0.1:{port}\"\n", self.host);
        std::fs::write(self.folder.join(".curlrc"), line).map_err(|source| HarnessError::io("write .curlrc", source))
    }

    /// The shipped configuration with each change of the table made: a change that is not known here fails.
    fn fitted(&self, reader: &Reader) -> Result<String, HarnessError> {
        let mut yaml = ShippedYaml::read()?;
        yaml.replace(
            "{address: 0.0.0.0, port_value: 8443}",
            "{address: 127.0.0.1, port_value: 0}",
        )?;
        let shown = |path: &Path| path.display().to_string();
        let rows = tables(&text_of(Path::new(PAGE)), TABLE);
        for place in rows.iter().filter_map(|row| row.first()).flat_map(|cell| quoted(cell)) {
            match place.as_str() {
                "/etc/envoy/tls/tls.crt" => yaml.replace(&place, &shown(&self.certificates.certificate))?,
                "/etc/envoy/tls/tls.key" => yaml.replace(&place, &shown(&self.certificates.private_key))?,
                "/run/kerbridge/mesh.sock" => {
                    yaml.replace(&place, &shown(&reader.place("/etc/kerbridge/mesh.sock")))?
                }
                "address: 127.0.0.1, port_value: 8080" => {
                    yaml.replace(
                        &place,
                        &format!("address: 127.0.0.1, port_value: {}", self.upstream.port()),
                    )?;
                }
                "- match: {path_separated_prefix: /legacy}" | "- name: legacy" => yaml.remove_block(&place)?,
                ENTRY => {
                    let path = reader.place("filter.yaml");
                    let filter = std::fs::read_to_string(&path)
                        .map_err(|source| HarnessError::io(format!("read {}", path.display()), source))?;
                    yaml.replace_first_block(ENTRY, &filter)?;
                }
                _ => {
                    return Err(HarnessError::UnexpectedAnswer {
                        what: format!("a change of envoy.yaml in {PAGE} that is made here, too"),
                        answer: place,
                    });
                }
            }
        }
        Ok(yaml.text().to_owned())
    }
}
