use super::*;

const PUBLIC: &str = "unix = \"mesh.sock\"\n[listen.public]\nunix = \"public.sock\"";
const CLIENT: &str = "[[client]]\nname = \"cli\"\nkeys = \"cli.json\"\n";
const KEYS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"k",
    "x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;

fn folder(client: &str) -> Folder {
    let folder = Folder::good();
    folder.write(
        "kerbridge.toml",
        format!("{}{client}", GOOD.replace("unix = \"mesh.sock\"", PUBLIC)),
        0o644,
    );
    folder.write("cli.json", KEYS, 0o644);
    folder
}

#[test]
fn a_client_has_a_name_and_public_keys_in_a_file() {
    let config = folder(CLIENT).load().unwrap();
    let [client] = config.clients() else {
        panic!("one client")
    };
    assert_eq!((client.name.as_str(), client.algorithms.len()), ("cli", 1));
    assert!(client.keys.ends_with("cli.json"));
}

#[test]
fn each_mistake_is_named() {
    for (client, expected) in [
        (
            CLIENT.replace("name = \"cli\"\n", ""),
            "client[0].name: is missing; name the client",
        ),
        (
            CLIENT.replace("\"cli\"", "\"c li\""),
            "client[0].name: \"c li\" cannot be a client's name; choose",
        ),
        (
            CLIENT.replace("\"cli\"", "\"*\""),
            "client[0].name: \"*\" is no client: names are compared as they stand",
        ),
        (
            CLIENT.replace("\"cli\"", "\"public\""),
            "client[0].name: \"public\" is what callers of listen.public are called that have not said who they are; choose",
        ),
        (
            CLIENT.replace("\"cli\"", "\"mesh\""),
            "client[0].name: \"mesh\" is what callers of listen.mesh are called",
        ),
        (
            CLIENT.replace("keys = \"cli.json\"\n", ""),
            "client[0].keys: is missing; name the file",
        ),
        (
            CLIENT.replace("cli.json", "none.json"),
            "client[0].keys: none.json: No such file",
        ),
        (
            CLIENT.replace("cli.json", "kek"),
            "client[0].keys: kek holds no public key for these algorithms; write",
        ),
        (
            format!("{CLIENT}algorithms = [\"RS256\"]\n"),
            "client[0].keys: cli.json holds no public key for these algorithms; write",
        ),
        (
            format!("{CLIENT}{CLIENT}"),
            "client[1].name: \"cli\" stands here twice; keep one",
        ),
    ] {
        let found = folder(&client).problems();
        assert!(
            found.len() == 1 && found[0].starts_with(expected),
            "{expected}: {found:#?}"
        );
    }
    let found = folder(&format!("{CLIENT}algorithms = []\n")).problems();
    assert!(
        found[0].starts_with("client[0].algorithms: names none; write"),
        "{found:#?}"
    );
    let alone = Folder::good();
    alone.write("kerbridge.toml", format!("{GOOD}{CLIENT}"), 0o644);
    alone.write("cli.json", KEYS, 0o644);
    let found = alone.problems();
    assert!(
        found.len() == 1 && found[0].starts_with("client: is for listen.public"),
        "{found:#?}"
    );
}

#[test]
fn keys_of_another_issuer_are_followed_where_its_tokens_are_traded_and_nobody_is_acted_for() {
    let folder = Folder::good();
    let keys = "[[issuer_keys]]\nissuer = \"https://idp.test\"\nfile = \"idp.json\"\n";
    folder.write("kerbridge.toml", format!("{GOOD}{keys}"), 0o644);
    folder.write("policy.toml", format!("{POLICY}{TRACED}"), 0o644);
    let config = folder.load().unwrap();
    let [source] = config.key_sources() else {
        panic!("one source")
    };
    assert_eq!(source.terms.issuer, "https://idp.test");
    // What it revokes must be known where its tokens buy others: the filter's feed never names those.
    let with_feed = TRACED.replacen(
        "[[subject]]",
        "[issuer.feed]\ncluster = \"idp\"\nauthority = \"idp\"\npath = \"/feed\"\n[[subject]]",
        1,
    );
    folder.write("policy.toml", format!("{POLICY}{with_feed}"), 0o644);
    let found = folder.problems();
    assert!(
        found.len() == 1 && found[0].starts_with("issuer_feeds: has none for https://idp.test"),
        "{found:#?}"
    );
    let feeds = "[[issuer_feeds]]\nissuer = \"https://idp.test\"\nunix = \"/run/idp.sock\"\n";
    folder.write("kerbridge.toml", format!("{GOOD}{keys}{feeds}"), 0o644);
    assert_eq!(folder.load().unwrap().feed_sources().len(), 1);
    folder.write("policy.toml", format!("{POLICY}{TRACED}"), 0o644);
    // A policy is one file for several brokers: who has no keys of an issuer does not take its tokens.
    folder.write("kerbridge.toml", GOOD, 0o644);
    assert!(folder.load().unwrap().key_sources().is_empty());
    folder.write(
        "kerbridge.toml",
        format!("{GOOD}{}", keys.replace("file = \"idp.json\"\n", "")),
        0o644,
    );
    let found = folder.problems();
    assert!(found[0].starts_with("issuer_keys[0]: is missing"), "{found:#?}");
    folder.write("kerbridge.toml", format!("{GOOD}{keys}"), 0o644);
    folder.write("policy.toml", POLICY, 0o644);
    let found = folder.problems();
    assert!(
        found.len() == 1 && found[0].starts_with("issuer_keys[0].issuer: no [[subject]] of the policy is about"),
        "{found:#?}"
    );
    let delegation = "[delegation]\nprincipal = \"x@A.TEST\"\nkeytab = \"http.keytab\"\n";
    folder.write("kerbridge.toml", format!("{GOOD}{keys}{delegation}"), 0o644);
    let found = folder.problems();
    assert!(
        found
            .iter()
            .any(|line| line.starts_with("issuer_keys: stands beside [delegation]; write each")),
        "{found:#?}"
    );
}

#[test]
fn a_key_whose_name_another_one_has_too_is_a_mistake_whatever_it_is_for() {
    let folder = folder(CLIENT);
    let key = KEYS.strip_prefix(r#"{"keys":["#).unwrap().strip_suffix("]}").unwrap();
    for other in [
        key,
        r#"{"kid":"k"}"#,
        r#"{"kty":"RSA","kid":"k","alg":"RS256","n":"AQ","e":"AQ"}"#,
    ] {
        folder.write("cli.json", format!(r#"{{"keys":[{key},{other}]}}"#), 0o644);
        let found = folder.problems();
        assert!(
            found.len() == 1
                && found[0].starts_with("client[0].keys: cli.json holds two keys that are called \"k\", and only"),
            "{other}: {found:#?}"
        );
    }
    let other = key.replace(r#""kid":"k""#, r#""kid":"l""#);
    folder.write("cli.json", format!(r#"{{"keys":[{key},{other},{{}},{{}}]}}"#), 0o644);
    folder.load().unwrap();
}
