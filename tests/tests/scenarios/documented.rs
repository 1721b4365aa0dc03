//! Follows the documents, as they stand there: every block of commands that names its lab is typed in it, and every Envoy
//! configuration is given to Envoy.

mod brokers;
mod configurations;
mod files;
mod first_request;
mod lab_up;
mod languages;

use kerbridge_tests::World;
use kerbridge_tests::document::Reader;
use kerbridge_tests::shipped::module;

/// Somebody at the broker's machine, with alice's tickets, who reads the names of this world.
fn reader(world: &mut World) -> Reader {
    let mut reader = Reader::new(world.broker().folder()).unwrap();
    reader.set_all(world.client("alice"));
    reader.set("KRB5_KDC_PROFILE", world.kdc().kdc_profile());
    reader.set("CURL_CA_BUNDLE", &world.certificates().authority);
    reader.knows_the_password("alice of the lab");
    let krb5 = std::fs::read_to_string(world.kdc().krb5_config()).unwrap();
    let kdc = krb5
        .lines()
        .find_map(|line| line.trim().strip_prefix("kdc = "))
        .unwrap();
    reader.read_as("kdc.example.com", kdc);
    reader.read_as("target/debug/kerbridge-lab", "kerbridge-lab");
    for (written, there) in [
        // Before others, whose places are below it.
        ("/tmp/", "./".to_owned()),
        (
            "/etc/envoy/kerbridge_filter.wasm",
            module().unwrap().display().to_string(),
        ),
        ("/etc/kerbridge/kerbridge.toml", "kerbridge.toml".to_owned()),
        (
            "/etc/ssl/example-ca.pem",
            world.certificates().authority.display().to_string(),
        ),
        ("https://api.example.com", world.url("")),
        ("127.0.0.1:9901", format!("127.0.0.1:{}", world.envoy().admin_port())),
        ("127.0.0.1:8443", format!("127.0.0.1:{}", world.port())),
        ("HTTP/api.example.com", "HTTP/localhost".to_owned()),
        (
            "HTTP/legacy.example.com",
            kerbridge_tests::delegation::LEGACY.to_owned(),
        ),
        ("kerbridge/broker.example.com", "kerbridge/broker.lab.test".to_owned()),
        ("EXAMPLE.COM", world.kdc().realm().to_owned()),
    ] {
        reader.read_as(written, there);
    }
    reader
}
