//! Reads what the KDC is asked and answers (RFC 4120 §5.4, §5.9): names, encryption types and error codes, which are in the
//! clear. No key, no ticket and no authenticator is taken along.

use crate::spnego::element;

/// A message in a line, and what else of it can be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub summary: String,
    /// Its details, a line each.
    pub lines: Vec<String>,
}

const AS_REQ: u8 = 0x6a;
const AS_REP: u8 = 0x6b;
const TGS_REQ: u8 = 0x6c;
const TGS_REP: u8 = 0x6d;
const KRB_ERROR: u8 = 0x7e;
const TICKET: u8 = 0x61;
const SEQUENCE: u8 = 0x30;

/// What a message says in the clear.
#[must_use]
pub fn read(bytes: &[u8]) -> Message {
    let known = element(bytes).and_then(|(tag, content, _)| match tag {
        AS_REQ => request("AS-REQ", content),
        TGS_REQ => request("TGS-REQ", content),
        AS_REP => reply("AS-REP", content),
        TGS_REP => reply("TGS-REP", content),
        KRB_ERROR => error(content),
        _ => None,
    });
    known.unwrap_or_else(|| Message {
        summary: format!("{} bytes that are no message of a KDC", bytes.len()),
        lines: Vec::new(),
    })
}

/// The elements one after the other.
fn elements(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let mut found = Vec::new();
    while let Some((tag, content, rest)) = element(bytes) {
        found.push((tag, content));
        bytes = rest;
    }
    found
}

/// The fields of a `SEQUENCE`, each with the number of its context tag.
fn fields(bytes: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let (_, content, _) = element(bytes).filter(|(tag, ..)| *tag == SEQUENCE)?;
    let tagged = elements(content).into_iter().filter(|(tag, _)| tag & 0xe0 == 0xa0);
    Some(tagged.map(|(tag, content)| (tag & 0x1f, content)).collect())
}

fn field<'a>(fields: &[(u8, &'a [u8])], number: u8) -> Option<&'a [u8]> {
    fields
        .iter()
        .find(|(own, _)| *own == number)
        .map(|(_, content)| *content)
}

fn number(bytes: &[u8]) -> Option<i64> {
    let (_, content, _) = element(bytes)?;
    let (first, rest) = content.split_first().filter(|(_, rest)| rest.len() < 8)?;
    let start = i64::from(i8::from_be_bytes([*first]));
    Some(rest.iter().fold(start, |value, byte| (value << 8) | i64::from(*byte)))
}

fn text(bytes: &[u8]) -> Option<String> {
    let (_, content, _) = element(bytes)?;
    let shown = String::from_utf8_lossy(content);
    Some(shown.chars().filter(|letter| !letter.is_control()).take(200).collect())
}

/// A `PrincipalName`: its parts with slashes between them.
fn name(bytes: &[u8]) -> Option<String> {
    let fields = fields(bytes)?;
    let (_, parts, _) = element(field(&fields, 1)?)?;
    let words = elements(parts)
        .into_iter()
        .map(|(_, word)| String::from_utf8_lossy(word).into_owned());
    Some(words.collect::<Vec<_>>().join("/"))
}

fn principal(name: Option<String>, realm: Option<String>) -> String {
    let name = name.unwrap_or_else(|| "nobody".to_owned());
    realm.map_or_else(|| name.clone(), |realm| format!("{name}@{realm}"))
}

fn request(kind: &str, bytes: &[u8]) -> Option<Message> {
    let outer = fields(bytes)?;
    let body = fields(field(&outer, 4)?)?;
    let realm = field(&body, 2).and_then(text);
    let service = principal(field(&body, 3).and_then(name), realm.clone());
    let mut lines = Vec::new();
    if let Some(client) = field(&body, 1).and_then(name) {
        lines.push(format!("client  {}", principal(Some(client), realm)));
    }
    lines.push(format!("service  {service}"));
    let mut purpose = "";
    let padata = field(&outer, 3)
        .and_then(element)
        .map(|(_, content, _)| elements(content));
    let mut kinds = Vec::new();
    for (tag, content) in padata.into_iter().flatten() {
        let whole = crate::spnego::der(tag, content);
        let Some(entry) = fields(&whole) else { continue };
        let Some(kind) = field(&entry, 1).and_then(number) else {
            continue;
        };
        kinds.push(padata_name(kind));
        let value = field(&entry, 2).and_then(element).map(|(_, value, _)| value);
        if kind == FOR_USER {
            purpose = " in a user's name to itself (S4U2self)";
            lines.extend(value.and_then(for_user).map(|user| format!("for user  {user}")));
        }
    }
    let options = field(&body, 0)
        .and_then(element)
        .map(|(_, content, _)| flags(content))
        .unwrap_or_default();
    if options.contains(&"cname-in-addl-tkt") {
        purpose = " in a user's name to another service (S4U2proxy)";
    }
    let tickets = field(&body, 11)
        .and_then(element)
        .map_or(0, |(_, content, _)| elements(content).len());
    if tickets > 0 {
        lines.push(format!("tickets along  {tickets}"));
    }
    let etypes = field(&body, 8)
        .and_then(element)
        .map(|(_, content, _)| elements(content));
    let etypes: Vec<String> = etypes
        .into_iter()
        .flatten()
        .filter_map(|(tag, content)| number(&crate::spnego::der(tag, content)))
        .map(etype_name)
        .collect();
    lines.push(format!("etypes  {}", etypes.join(" ")));
    lines.push(format!("options  {}", options.join(" ")));
    lines.push(format!("padata  {}", kinds.join(" ")));
    Some(Message {
        summary: format!("{kind} for {service}{purpose}"),
        lines,
    })
}

/// `PA-FOR-USER` (MS-SFU §2.2.1).
fn for_user(bytes: &[u8]) -> Option<String> {
    let fields = fields(bytes)?;
    Some(principal(
        field(&fields, 0).and_then(name),
        field(&fields, 1).and_then(text),
    ))
}

fn reply(kind: &str, bytes: &[u8]) -> Option<Message> {
    let outer = fields(bytes)?;
    let client = principal(field(&outer, 4).and_then(name), field(&outer, 3).and_then(text));
    let (_, ticket, _) = element(field(&outer, 5)?).filter(|(tag, ..)| *tag == TICKET)?;
    let ticket = fields(ticket)?;
    let service = principal(field(&ticket, 2).and_then(name), field(&ticket, 1).and_then(text));
    let encrypted = |part: Option<&[u8]>| {
        let fields = part.and_then(fields).unwrap_or_default();
        let etype = field(&fields, 0)
            .and_then(number)
            .map_or_else(|| "?".to_owned(), etype_name);
        let kvno = field(&fields, 1).and_then(number).map(|kvno| format!(", kvno {kvno}"));
        format!("{etype}{}", kvno.unwrap_or_default())
    };
    Some(Message {
        summary: format!("{kind}: a ticket of {client} for {service}"),
        lines: vec![
            format!("client  {client}"),
            format!("service  {service}"),
            format!("ticket's key  {}", encrypted(field(&ticket, 3))),
            format!("reply's key  {}", encrypted(field(&outer, 6))),
        ],
    })
}

fn error(bytes: &[u8]) -> Option<Message> {
    let outer = fields(bytes)?;
    let code = field(&outer, 6).and_then(number)?;
    let service = principal(field(&outer, 10).and_then(name), field(&outer, 9).and_then(text));
    let mut lines = vec![format!("service  {service}")];
    lines.extend(field(&outer, 11).and_then(text).map(|text| format!("text  {text}")));
    Some(Message {
        summary: format!("KRB-ERROR {code} {}", error_name(code)),
        lines,
    })
}

/// `KDCOptions` (RFC 4120 §5.4.1, MS-SFU §2.2.3), by their names.
fn flags(bits: &[u8]) -> Vec<&'static str> {
    const NAMES: [(usize, &str); 8] = [
        (1, "forwardable"),
        (2, "forwarded"),
        (8, "renewable"),
        (14, "cname-in-addl-tkt"),
        (15, "canonicalize"),
        (27, "renewable-ok"),
        (28, "enc-tkt-in-skey"),
        (30, "renew"),
    ];
    // Before the bits stands how many of the last byte are none.
    let bytes = bits.get(1..).unwrap_or_default();
    let is_set = |bit: usize| {
        let byte = bytes.get(bit >> 3).copied().unwrap_or(0);
        byte.wrapping_shl(u32::try_from(bit & 7).unwrap_or(0)) & 0x80 != 0
    };
    NAMES
        .iter()
        .filter(|(bit, _)| is_set(*bit))
        .map(|(_, name)| *name)
        .collect()
}

const FOR_USER: i64 = 129;

fn padata_name(kind: i64) -> String {
    match kind {
        1 => "PA-TGS-REQ",
        2 => "PA-ENC-TIMESTAMP",
        11 => "PA-ETYPE-INFO",
        16 => "PA-PK-AS-REQ",
        19 => "PA-ETYPE-INFO2",
        128 => "PA-PAC-REQUEST",
        FOR_USER => "PA-FOR-USER",
        130 => "PA-S4U-X509-USER",
        133 => "PA-FX-COOKIE",
        136 => "PA-FX-FAST",
        149 => "PA-REQ-ENC-PA-REP",
        150 => "PA-AS-FRESHNESS",
        167 => "PA-PAC-OPTIONS",
        other => return format!("padata-{other}"),
    }
    .to_owned()
}

fn etype_name(etype: i64) -> String {
    match etype {
        17 => "aes128-cts-hmac-sha1-96",
        18 => "aes256-cts-hmac-sha1-96",
        19 => "aes128-cts-hmac-sha256-128",
        20 => "aes256-cts-hmac-sha384-192",
        23 => "rc4-hmac",
        16 => "des3-cbc-sha1",
        25 => "camellia128-cts-cmac",
        26 => "camellia256-cts-cmac",
        other => return format!("etype-{other}"),
    }
    .to_owned()
}

/// RFC 4120 §7.5.9.
fn error_name(code: i64) -> &'static str {
    match code {
        6 => "KDC_ERR_C_PRINCIPAL_UNKNOWN",
        7 => "KDC_ERR_S_PRINCIPAL_UNKNOWN",
        12 => "KDC_ERR_POLICY",
        13 => "KDC_ERR_BADOPTION",
        14 => "KDC_ERR_ETYPE_NOSUPP",
        18 => "KDC_ERR_CLIENT_REVOKED",
        24 => "KDC_ERR_PREAUTH_FAILED",
        25 => "KDC_ERR_PREAUTH_REQUIRED",
        29 => "KDC_ERR_SVC_UNAVAILABLE",
        31 => "KRB_AP_ERR_BAD_INTEGRITY",
        32 => "KRB_AP_ERR_TKT_EXPIRED",
        33 => "KRB_AP_ERR_TKT_NYV",
        34 => "KRB_AP_ERR_REPEAT",
        37 => "KRB_AP_ERR_SKEW",
        41 => "KRB_AP_ERR_MODIFIED",
        52 => "KRB_ERR_RESPONSE_TOO_BIG",
        60 => "KRB_ERR_GENERIC",
        68 => "KDC_ERR_WRONG_REALM",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spnego::der;

    fn principal_name(words: &[&str]) -> Vec<u8> {
        let words: Vec<Vec<u8>> = words.iter().map(|word| der(0x1b, word.as_bytes())).collect();
        let kind = der(0xa0, &der(0x02, &[1]));
        der(0x30, &[kind, der(0xa1, &der(0x30, &words.concat()))].concat())
    }

    #[test]
    fn an_error_is_named_with_its_service() {
        let inside = [
            der(0xa6, &der(0x02, &[13])),
            der(0xa9, &der(0x1b, b"LAB.TEST")),
            der(0xaa, &principal_name(&["HTTP", "legacy"])),
            der(0xab, &der(0x1b, b"NOT_ALLOWED\nTO_DELEGATE")),
        ];
        let message = read(&der(KRB_ERROR, &der(0x30, &inside.concat())));
        assert_eq!(message.summary, "KRB-ERROR 13 KDC_ERR_BADOPTION");
        assert_eq!(
            message.lines,
            ["service  HTTP/legacy@LAB.TEST", "text  NOT_ALLOWEDTO_DELEGATE"]
        );
    }

    #[test]
    fn a_request_in_a_users_name_says_for_whom_and_by_which_means() {
        let user = [
            der(0xa0, &principal_name(&["alice"])),
            der(0xa1, &der(0x1b, b"LAB.TEST")),
        ];
        let entry = [
            der(0xa1, &der(0x02, &[0, 129])),
            der(0xa2, &der(0x04, &der(0x30, &user.concat()))),
        ];
        let body = [
            der(0xa0, &der(0x03, &[0, 0x40, 0, 0, 0])),
            der(0xa2, &der(0x1b, b"LAB.TEST")),
            der(0xa3, &principal_name(&["bridge"])),
            der(0xa8, &der(0x30, &[der(0x02, &[18]), der(0x02, &[17])].concat())),
        ];
        let outer = [
            der(0xa3, &der(0x30, &der(0x30, &entry.concat()))),
            der(0xa4, &der(0x30, &body.concat())),
        ];
        let message = read(&der(TGS_REQ, &der(0x30, &outer.concat())));
        assert_eq!(
            message.summary,
            "TGS-REQ for bridge@LAB.TEST in a user's name to itself (S4U2self)"
        );
        assert_eq!(
            message.lines,
            [
                "service  bridge@LAB.TEST",
                "for user  alice@LAB.TEST",
                "etypes  aes256-cts-hmac-sha1-96 aes128-cts-hmac-sha1-96",
                "options  forwardable",
                "padata  PA-FOR-USER",
            ]
        );
    }

    #[test]
    fn what_is_no_message_is_counted_and_not_shown() {
        for bytes in [
            b"".as_slice(),
            b"secret",
            &[0x6a, 0x05, 0x30, 0x03],
            &[0x7e, 0x02, 0x30, 0x00],
        ] {
            let message = read(bytes);
            assert_eq!(message.lines, Vec::<String>::new());
            assert!(message.summary.ends_with("no message of a KDC"), "{}", message.summary);
        }
    }
}
