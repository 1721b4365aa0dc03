//! Reads the head of a request once, seeing every header as often as it came.

use std::net::IpAddr;

use kerbridge_wire::policy::Scheme;

use crate::certificate::CertificateDigest;
use crate::header_map::HeaderMap;

/// The head of a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// All headers, pseudo-headers included, names in lower case.
    pub headers: &'a HeaderMap,
    /// It came over TLS, as Envoy knows and no client can claim.
    pub secure: bool,
    /// Where it came from, as Envoy trusts it; `None` for a Unix socket, and where the configuration does not look at it.
    pub source: Option<IpAddr>,
    /// The client's certificate; `None` where it showed none, and where the configuration does not look at it.
    pub certificate: Option<CertificateDigest>,
}

/// Prefix of the names of our cookies. The `__Host-` part makes browsers insist on Secure, Path=/ and no Domain.
pub const COOKIE_PREFIX: &[u8] = b"__Host-kerbridge-";

/// The cookie that marks a browser as logged out: no ticket is asked of it until its user wants that. No audience's is called so.
pub const LOGGED_OUT_COOKIE: &str = "__Host-kerbridge-logged-out";

/// The cookie that holds the token for one audience: the prefix and 64 bits of FNV-1a over the audience. The digest
/// only keeps names apart; a token is good for the audience that it names, whichever cookie carries it.
pub fn cookie_name(audience: &str) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in audience.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("__Host-kerbridge-{hash:016x}")
}

impl<'a> RequestHead<'a> {
    /// `:method`
    pub fn method(&self) -> &'a [u8] {
        self.headers.first(b":method").unwrap_or_default()
    }

    /// `:path`, the query included.
    pub fn path(&self) -> &'a [u8] {
        self.headers.first(b":path").unwrap_or_default()
    }

    /// `:authority`, the port included.
    pub fn authority(&self) -> &'a [u8] {
        self.headers.first(b":authority").unwrap_or_default()
    }

    /// The method that a CORS preflight asks about (Fetch §4.8); `None` for any other request.
    pub fn preflight_for(&self) -> Option<&'a [u8]> {
        let asked = self.headers.first(b"access-control-request-method")?;
        (self.method() == b"OPTIONS" && self.headers.first(b"origin").is_some()).then_some(asked)
    }

    /// The pairs of all `cookie` lines that are ours, name and value.
    pub fn our_cookies(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.headers
            .values(b"cookie")
            .flat_map(cookie_pairs)
            .filter_map(|pair| {
                let (name, value) = split_cookie(pair);
                name.starts_with(COOKIE_PREFIX).then_some((name, value))
            })
    }

    /// Whether it comes from a browser that was logged out a moment ago.
    pub(crate) fn was_logged_out(&self) -> bool {
        self.our_cookies().any(|(name, _)| name == LOGGED_OUT_COOKIE.as_bytes())
    }

    /// The cookies without ours, as one line; `None` where nothing of ours is there.
    pub fn cookies_without_ours(&self) -> Option<Vec<u8>> {
        self.our_cookies().next()?;
        let rest: Vec<&[u8]> = self
            .headers
            .values(b"cookie")
            .flat_map(cookie_pairs)
            .filter(|pair| !pair.is_empty() && !split_cookie(pair).0.starts_with(COOKIE_PREFIX))
            .collect();
        Some(rest.join(b"; ".as_slice()))
    }

    /// Whether the client is a person's browser asking for a page.
    pub fn wants_html(&self) -> bool {
        self.headers
            .values(b"accept")
            .any(|accept| accept.windows(9).any(|part| part == b"text/html"))
    }

    /// Whether the method may change something, or the request opens a two-way channel.
    fn is_state_changing(&self) -> bool {
        !matches!(self.method(), b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE") || self.headers.first(b"upgrade").is_some()
    }

    /// Where the request was made, as far as a browser says so.
    pub fn site(&self) -> Site {
        let fetch_site = self.headers.first(b"sec-fetch-site");
        let origin = self.headers.first(b"origin");
        let foreign_fetch = fetch_site.is_some_and(|site| site != b"same-origin" && site != b"none");
        let foreign_origin = origin.is_some_and(|origin| !self.is_own_origin(origin));
        if foreign_fetch || foreign_origin {
            Site::Foreign
        } else if fetch_site.is_some() || origin.is_some() {
            Site::Own
        } else {
            Site::Unsaid
        }
    }

    /// Whether it may be a person who goes there: no page's own image, script, frame or call, and no look ahead of the browser's.
    /// What says nothing of that is no browser of today.
    pub(crate) fn may_be_a_persons_step(&self) -> bool {
        let says = |name: &'static [u8], wanted: &[u8]| self.headers.values(name).all(|value| value == wanted);
        let mut purposes = self
            .headers
            .values(b"sec-purpose")
            .chain(self.headers.values(b"purpose"));
        says(b"sec-fetch-mode", b"navigate") && says(b"sec-fetch-dest", b"document") && purposes.next().is_none()
    }

    fn is_own_origin(&self, origin: &[u8]) -> bool {
        let (host, default_port): (_, &[u8]) = match (origin.strip_prefix(b"https://"), origin.strip_prefix(b"http://"))
        {
            (Some(host), _) => (host, b":443"),
            (None, Some(host)) if !self.secure => (host, b":80"),
            (None, Some(_) | None) => return false,
        };
        let own = self.authority();
        let host = host.strip_suffix(default_port).unwrap_or(host);
        host.eq_ignore_ascii_case(own.strip_suffix(default_port).unwrap_or(own))
    }

    /// Whether a credential that browsers send by themselves may be used for this request: not from another site's
    /// page for a state-changing one, and by cookie only where the browser says where it comes from.
    pub fn is_cross_site(&self, scheme: Scheme) -> bool {
        self.is_state_changing()
            && match (scheme, self.site()) {
                (Scheme::Bearer | Scheme::Header, _) | (_, Site::Own) | (Scheme::Negotiate, Site::Unsaid) => false,
                (Scheme::Negotiate | Scheme::Cookie, Site::Foreign) | (Scheme::Cookie, Site::Unsaid) => true,
            }
    }

    /// Whether a Negotiate challenge would let another site's page use this user's ticket. A link that a person
    /// follows is such a request too and must be let in; a page's own calls, images and frames are not.
    pub fn withholds_negotiate(&self) -> bool {
        let followed_link = self.method() == b"GET"
            && self.headers.first(b"sec-fetch-mode") == Some(b"navigate")
            && self.headers.first(b"sec-fetch-dest") == Some(b"document");
        self.site() == Site::Foreign && !followed_link
    }
}

/// Where a request was made, by `Sec-Fetch-Site` and `Origin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Site {
    /// A page of this very origin, or the person.
    Own,
    /// Another origin, a sibling host included.
    Foreign,
    /// The client does not say: no browser of today.
    Unsaid,
}

fn cookie_pairs(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b';').map(<[u8]>::trim_ascii)
}

fn split_cookie(pair: &[u8]) -> (&[u8], &[u8]) {
    match pair.iter().position(|byte| *byte == b'=') {
        Some(at) => {
            let (name, rest) = pair.split_at_checked(at).unwrap_or((pair, b""));
            (
                name.trim_ascii_end(),
                rest.get(1..).unwrap_or_default().trim_ascii_start(),
            )
        }
        None => (pair, b""),
    }
}

/// Whether the query has a parameter `access_token` (RFC 6750 §2.3), its name percent-encoded or not.
pub(crate) fn has_token_in_query(path: &[u8]) -> bool {
    let Some(at) = path.iter().position(|byte| *byte == b'?') else {
        return false;
    };
    let query = path.get(at.saturating_add(1)..).unwrap_or_default();
    query.split(|byte| matches!(byte, b'&' | b';' | b'?')).any(|pair| {
        let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
        percent_decoded(name).eq_ignore_ascii_case(b"access_token")
    })
}

/// The values of one parameter of a target's query, as they stand there; its name percent-encoded or not.
pub(crate) fn query_values<'t>(target: &'t [u8], name: &'static [u8]) -> impl Iterator<Item = &'t [u8]> {
    let at = target.iter().position(|byte| *byte == b'?').unwrap_or(target.len());
    let query = target.get(at.saturating_add(1)..).unwrap_or_default();
    query.split(|byte| *byte == b'&').filter_map(move |pair| {
        let end = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        let (own, value) = pair.split_at_checked(end)?;
        (percent_decoded(own) == name).then(|| value.get(1..).unwrap_or_default())
    })
}

pub(crate) fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        let escaped = match (byte, tail) {
            (b'%', [high, low, after @ ..]) => hex(*high).zip(hex(*low)).map(|(h, l)| (h << 4 | l, after)),
            _ => None,
        };
        let (decoded, after) = escaped.unwrap_or((byte, tail));
        out.push(decoded);
        rest = after;
    }
    out
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}
