//! Sends the answers of the gate to the client, and brings those of the broker to the gate.

use kerbridge_gate::Reason;
use kerbridge_gate::callbacks::Failure;
use kerbridge_gate::exchange::{BrokerReply, REPLY_LIMIT};
use kerbridge_gate::refusal::LocalReply;
use kerbridge_gate::step::Decision;
use kerbridge_wire::Fault;
use proxy_wasm::types::MapType;

use crate::host;

/// Answers the request here.
pub(crate) fn respond(reply: &LocalReply) {
    let reason = reply.decision.reason;
    let headers: Vec<(&str, &[u8])> = reply
        .headers
        .iter()
        .map(|(name, value)| (&**name, value.expose()))
        .collect();
    if host::respond(reason, reply.status, &headers, &reply.body).is_err() {
        log::error!("the host refuses a local reply, the request stays held reason={reason}");
    }
}

/// Says in the log what is to be mended by others than the client.
pub(crate) fn complain(decision: &Decision) {
    match decision.reason.fault() {
        Fault::Us => log::warn!("request refused by our own fault {}", decision.logged()),
        Fault::Upstream => log::warn!("request refused by the service's fault {}", decision.logged()),
        Fault::None | Fault::Client | Fault::Policy | Fault::ClientOrUs => {}
    }
}

/// What came back for a callout with so many headers, to be read within its callback.
pub(crate) fn with_reply<T>(headers: usize, take: impl FnOnce(BrokerReply<'_>) -> T) -> T {
    // No headers: the call was reset, or the answer was over Envoy's limit; there is nothing to read then.
    let head = if headers == 0 {
        None
    } else {
        host::header_map(MapType::HttpCallResponseHeaders).ok()
    };
    let body = head
        .as_ref()
        .map(|_| host::callout_body(REPLY_LIMIT.saturating_add(1)).unwrap_or_default());
    take(match (&head, &body) {
        (Some(head), Some(body)) => BrokerReply::Response {
            status: head.first(b":status"),
            content_type: head.first(b"content-type"),
            body,
        },
        (None, _) | (_, None) => BrokerReply::Nothing,
    })
}

/// Ends a request whose host does not do what it is asked, in the way that is left.
pub(crate) fn fail(failure: Failure) {
    let reason = Reason::Internal;
    log::error!("the host refuses a call, the request is refused reason={reason}");
    let done = match failure {
        Failure::Answer => {
            let body = b"{\"error\":\"temporarily_unavailable\",\"request_id\":\"\"}\n";
            let headers: [(&str, &[u8]); 3] = [
                ("cache-control", b"no-store"),
                ("retry-after", b"5"),
                ("content-type", b"application/json"),
            ];
            host::respond(reason, reason.status(), &headers, body)
        }
        Failure::Reset => host::reset(),
        Failure::Nothing => Ok(()),
    };
    if done.is_err() {
        log::error!("the host refuses a local reply, the request stays held reason={reason}");
    }
}
