//! The served description says what the endpoints do, all of it and nothing else.

use std::collections::BTreeSet;

use axum::http::Method;

use super::trades::{first_token, trade};
use super::*;
use crate::client_assertion::ASSERTION_TYPE;
use crate::exchange::Refusal;
use crate::server::{openapi, routes, token};

fn described() -> Value {
    serde_json::from_str(openapi::DOCUMENT).unwrap()
}

/// The value to which a `$ref` leads, or the value itself.
fn follow<'d>(document: &'d Value, value: &'d Value) -> &'d Value {
    match value["$ref"].as_str() {
        Some(place) => follow(document, document.pointer(place.strip_prefix('#').unwrap()).unwrap()),
        None => value,
    }
}

fn names(value: &Value) -> BTreeSet<String> {
    value.as_object().unwrap().keys().cloned().collect()
}

/// A path as the description writes it.
fn template(path: &str) -> String {
    path.replace("{*", "{")
}

#[tokio::test]
async fn each_path_and_method_of_public_is_described_and_no_other() {
    let broker = broker(Ok("alice@A.TEST"));
    let document = described();
    let paths: BTreeSet<String> = routes(ListenerName::Public, &broker)
        .iter()
        .map(|(path, _)| template(path))
        .collect();
    assert_eq!(names(&document["paths"]), paths);
    for path in paths {
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
            let request = Request::builder()
                .method(Method::from_bytes(method.as_bytes()).unwrap())
                .uri(path.replace("{path}", "a/b"))
                .body(Body::empty())
                .unwrap();
            let status = send(ListenerName::Public, &broker, request).await.status();
            let is_described = document["paths"][&path].get(method.to_lowercase()).is_some();
            assert_eq!(
                status != StatusCode::METHOD_NOT_ALLOWED,
                is_described,
                "{method} {path}"
            );
        }
    }
}

#[tokio::test]
async fn it_is_served_for_the_issuer_and_on_public_alone() {
    let mut broker = broker(Ok("alice@A.TEST"));
    let get = async |broker: &Arc<Broker>, listener| {
        let request = Request::get(openapi::PATH).body(Body::empty()).unwrap();
        let response = send(listener, broker, request).await;
        let status = response.status();
        (
            status,
            serde_json::from_str::<Value>(&text(response).await).unwrap_or_default(),
        )
    };
    let (status, found) = get(&broker, ListenerName::Public).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(found["servers"][0]["url"], "https://broker.test");
    assert_eq!(found["paths"], described()["paths"]);
    assert_eq!(get(&broker, ListenerName::Mesh).await.0, StatusCode::NOT_FOUND);
    let to_token = Arc::get_mut(&mut broker).unwrap().exchange.to_token.as_mut().unwrap();
    to_token.issuer = "https://broker.test/kerbridge/".into();
    let (_, found) = get(&broker, ListenerName::Public).await;
    assert_eq!(found["servers"][0]["url"], "https://broker.test/kerbridge");
    let metadata = &found["paths"]["/.well-known/oauth-authorization-server/kerbridge"];
    assert_eq!(metadata["servers"][0]["url"], "https://broker.test");
    assert_eq!(metadata["get"]["operationId"], "metadata");
    let paths: BTreeSet<String> = routes(ListenerName::Public, &broker)
        .iter()
        .map(|(path, _)| template(path))
        .collect();
    assert_eq!(names(&found["paths"]), paths);
}

/// Whatever is refused on `public`, and with which word, is described at each endpoint.
#[test]
fn each_status_and_word_of_a_refusal_is_described() {
    let document = described();
    let caller = Caller {
        listener: ListenerName::Public,
        client: "public".into(),
        proof: ClientProof::Nothing,
        peer: Peer::default(),
    };
    let (mut statuses, mut words) = (BTreeSet::new(), BTreeSet::new());
    for &reason in Reason::ALL.iter().filter(|reason| **reason != Reason::Ok) {
        let refusal = || Refusal::for_test(reason, "");
        let word = serde_json::to_value(refusal().for_listener(ListenerName::Public).error).unwrap();
        words.insert(word.as_str().unwrap().to_owned());
        let response = token::refused(refusal(), &caller);
        statuses.insert(response.status().as_u16().to_string());
    }
    // Of `/oauth2/revoke`, for another client's token.
    words.insert("unauthorized_client".into());
    let error = &document["components"]["schemas"]["Error"];
    let written = error["properties"]["error"]["enum"].as_array().unwrap().iter();
    let written: BTreeSet<String> = written.map(|word| word.as_str().unwrap().to_owned()).collect();
    assert_eq!(written, words);
    assert_eq!(
        names(&error["properties"]),
        ["error", "error_description"].map(String::from).into()
    );
    statuses.insert("200".into());
    for path in ["/oauth2/token", "/oauth2/introspect", "/oauth2/revoke"] {
        let answers = &document["paths"][path]["post"]["responses"];
        assert_eq!(names(answers), statuses, "{path}");
        for (status, answer) in answers.as_object().unwrap() {
            let answer = follow(&document, answer);
            let later = answer["headers"].get("Retry-After").is_some();
            assert_eq!(later, ["429", "503"].contains(&status.as_str()), "{path} {status}");
            let challenge = &answer["headers"]["WWW-Authenticate"];
            assert_eq!(
                follow(&document, challenge)["required"] == true,
                status == "401",
                "{path} {status}"
            );
            if status != "200" {
                let schema = &answer["content"]["application/json"]["schema"];
                assert_eq!(follow(&document, schema), error, "{path} {status}");
            }
        }
    }
}

/// The parameters of a form, those of its parts too.
fn parameters(document: &Value, schema: &Value) -> BTreeSet<String> {
    let schema = follow(document, schema);
    let own = names(&schema["properties"]);
    let parts = schema["allOf"].as_array().into_iter().flatten();
    parts.flat_map(|part| parameters(document, part)).chain(own).collect()
}

#[tokio::test]
async fn each_parameter_that_public_reads_is_described_and_none_of_the_mesh() {
    use kerbridge_wire::exchange::parameter as p;
    let document = described();
    let of = |path: &str| {
        let schema = &document["paths"][path]["post"]["requestBody"]["content"][FORM]["schema"];
        parameters(&document, schema)
    };
    let client = ["client_id", "client_assertion", "client_assertion_type"];
    let exchange = [
        p::GRANT_TYPE,
        p::SUBJECT_TOKEN,
        p::SUBJECT_TOKEN_TYPE,
        p::REQUESTED_TOKEN_TYPE,
        p::AUDIENCE,
        p::RESOURCE,
        p::SCOPE,
    ];
    assert_eq!(
        of("/oauth2/token"),
        exchange.iter().chain(&client).map(|&name| name.to_owned()).collect()
    );
    for path in ["/oauth2/introspect", "/oauth2/revoke"] {
        let expected = ["token", "token_type_hint"].into_iter().chain(client);
        assert_eq!(of(path), expected.map(String::from).collect(), "{path}");
    }
    let kind = follow(&document, &document["components"]["schemas"]["ClientAssertion"]);
    assert_eq!(kind["properties"]["client_assertion_type"]["const"], ASSERTION_TYPE);
    // Each kind of subject token that is described is read as one, and no other is.
    let kinds = &document["components"]["schemas"]["ExchangeRequest"]["properties"][p::SUBJECT_TOKEN_TYPE]["enum"];
    let broker = broker(Ok("alice@A.TEST"));
    for kind in kinds.as_array().unwrap() {
        let fields = [(p::SUBJECT_TOKEN_TYPE, kind.as_str().unwrap()), ("client_secret", "")];
        let response = ask(ListenerName::Public, &broker, body(&fields)).await;
        let (status, answer) = (response.status(), text(response).await);
        assert!(!answer.contains("subject_token_type"), "{kind}: {status} {answer}");
    }
    let fields = [(p::SUBJECT_TOKEN_TYPE, "urn:ietf:params:oauth:token-type:saml2")];
    let (_, found) = error(ask(ListenerName::Public, &broker, body(&fields)).await).await;
    assert!(found.error_description.unwrap().starts_with("subject_token_type"));
}

/// That a body has each member that is required, and none that is not described.
fn assert_fits(document: &Value, schema: &Value, body: &Value) {
    let schema = follow(document, schema);
    let found = names(body);
    assert!(found.is_subset(&names(&schema["properties"])), "{body}");
    for required in schema["required"].as_array().unwrap() {
        assert!(found.contains(required.as_str().unwrap()), "{required}: {body}");
    }
    assert_eq!(schema["additionalProperties"], false);
}

#[tokio::test]
async fn each_answer_has_the_members_that_are_described() {
    let document = described();
    let schema = |name: &str| document["components"]["schemas"][name].clone();
    let policy = format!(
        "{POLICY}\n[[introspection]]\nclients = [\"mesh\"]\naudiences = [\"orders\", \"billing\"]\n\
         [[audience]]\nname = \"vault\"\ncertificate_bound = true\n"
    );
    let broker = broker_of(&policy, Ok("alice@A.TEST"), || Ok(()));
    let first = first_token(&broker).await;
    let reply = ask(ListenerName::Mesh, &broker, trade(&first, &[])).await;
    let reply: Value = serde_json::from_str(&text(reply).await).unwrap();
    assert_fits(&document, &schema("ExchangeReply"), &reply);
    let reply = ask(ListenerName::Public, &broker, body(&[])).await;
    assert_fits(
        &document,
        &schema("ExchangeReply"),
        &serde_json::from_str(&text(reply).await).unwrap(),
    );
    for (index, token) in ["x", first.as_str()].into_iter().enumerate() {
        let request = Request::post("/oauth2/introspect")
            .header(header::CONTENT_TYPE, FORM)
            .body(format!("token={token}").into())
            .unwrap();
        let said: Value = serde_json::from_str(&text(send(ListenerName::Mesh, &broker, request).await).await).unwrap();
        assert_fits(&document, &schema("Introspected")["oneOf"][index], &said);
    }
    for (path, host, name) in [
        ("/.well-known/jwks.json", "broker.test", "KeySet"),
        (
            "/.well-known/oauth-authorization-server",
            "broker.test",
            "ServerMetadata",
        ),
        ("/.well-known/openid-configuration", "broker.test", "OpenidMetadata"),
        (
            "/.well-known/oauth-protected-resource",
            "billing.test",
            "ServiceMetadata",
        ),
    ] {
        let request = Request::get(path)
            .header(header::HOST, host)
            .body(Body::empty())
            .unwrap();
        let response = send(ListenerName::Public, &broker, request).await;
        let answer = follow(&document, &document["paths"][path]["get"]["responses"]["200"]);
        let media = response.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
        assert_eq!(
            answer["content"][&media]["schema"]["$ref"],
            format!("#/components/schemas/{name}")
        );
        let found: Value = serde_json::from_str(&text(response).await).unwrap();
        assert_fits(&document, &schema(name), &found);
        // All that can be there is: nothing of it depends on anything.
        if name != "KeySet" {
            assert_eq!(names(&found), names(&schema(name)["properties"]), "{path}");
        }
    }
}
