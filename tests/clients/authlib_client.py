"""An OAuth client made of Authlib: finds its way from a refusal to a token, has it opened, traded, asked about and taken back.

The one argument is JSON: `url` of the service, `authority` (a file), `client` and `key` (its name and private key, a file),
`kid`, `trade` (an audience), `elsewhere` (the URL of that service), `scope`.
"""

import base64
import json
import sys
import time

import gssapi
import requests
from authlib.integrations.requests_client import OAuth2Session, OAuthError
from authlib.oauth2.rfc6750.errors import InvalidTokenError
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from authlib.oauth2.rfc7662 import IntrospectTokenValidator
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata, get_well_known_url
from authlib.oauth2.rfc9068 import JWTBearerTokenValidator
from joserfc.jwk import ECKey

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
NEGOTIATE = "urn:kerbridge:token-type:negotiate"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"

told = json.loads(sys.argv[1])
plain = requests.Session()
plain.trust_env = False
plain.verify = told["authority"]


def get(url, token=None):
    headers = {"Authorization": "Bearer " + token} if token else {}
    return plain.get(url, headers=headers, timeout=20)


def get_json(url):
    answer = get(url)
    answer.raise_for_status()
    return answer.json()


# From the challenge (RFC 9728 §5.1) to the service's metadata, from there to the server's (RFC 8414).
refused = get(told["url"])
challenges = [line.split(" ", 1) for line in refused.raw.headers.getlist("WWW-Authenticate")]
[bearer] = [line[1] for line in challenges if line[0] == "Bearer"]
service = get_json(requests.utils.parse_dict_header(bearer)["resource_metadata"])
assert service["resource"] == told["url"].rsplit("/", 1)[0], service
[issuer] = service["authorization_servers"]
server = AuthorizationServerMetadata(get_json(get_well_known_url(issuer, external=True)))
server.validate()
assert server["issuer"] == issuer, server


def session(method):
    made = OAuth2Session(
        told["client"],
        ECKey.import_key(open(told["key"], encoding="ascii").read()),
        token_endpoint_auth_method=method,
        revocation_endpoint_auth_method=method,
        default_timeout=20,
    )
    made.trust_env = False
    made.verify = told["authority"]
    return made


def proving(made):
    # Authlib's assertions live for an hour unless told otherwise, and an object of this class makes one of them.
    made.register_client_auth_method(
        PrivateKeyJWT(
            server["token_endpoint"], alg="ES256", headers={"kid": told["kid"]}, claims={"exp": int(time.time()) + 60}
        )
    )
    return made


def by_ticket(made):
    name = gssapi.Name("HTTP@localhost", gssapi.NameType.hostbased_service)
    client = gssapi.SecurityContext(name=name, usage="initiate", mech=gssapi.MechType.kerberos)
    ticket = base64.b64encode(client.step()).decode()
    reply = made.fetch_token(
        server["token_endpoint"],
        grant_type=EXCHANGE,
        subject_token=ticket,
        subject_token_type=NEGOTIATE,
        resource=service["resource"],
    )
    if not client.complete:
        client.step(base64.b64decode(reply["negotiate"]))
    return reply, client.complete


# For a ticket everybody gets a token; who has a key gets it under the own name.
unnamed, proven = by_ticket(session("none"))
known = session("private_key_jwt")
named, _ = by_ticket(proving(known))


class Verifier(JWTBearerTokenValidator):
    def get_jwks(self):
        return get_json(server["jwks_uri"])


verifier = Verifier(issuer, "orders")
claims = verifier.authenticate_token(named["access_token"])
verifier.validate_token(claims, [told["scope"]], None)


class Asker(IntrospectTokenValidator):
    def introspect_token(self, token):
        answer = proving(known).introspect_token(server["introspection_endpoint"], token=token)
        answer.raise_for_status()
        return answer.json()


asker = Asker()
said = asker.authenticate_token(named["access_token"])
asker.validate_token(said, [told["scope"]], None)

traded = proving(session("private_key_jwt")).fetch_token(
    server["token_endpoint"],
    grant_type=EXCHANGE,
    subject_token=named["access_token"],
    subject_token_type=ACCESS_TOKEN,
    audience=told["trade"],
)
opened = {
    "without": refused.status_code,
    "unnamed": get(told["url"], unnamed["access_token"]).status_code,
    "named": get(told["url"], named["access_token"]).status_code,
    "traded": get(told["elsewhere"], traded["access_token"]).status_code,
    "traded, where it came from": get(told["url"], traded["access_token"]).status_code,
}

# Errors are errors to the library, with the RFC's word.
errors = []
for made, more in [
    (session("none"), {"subject_token": named["access_token"], "audience": told["trade"]}),
    (proving(session("private_key_jwt")), {"subject_token": traded["access_token"], "audience": "orders"}),
    (proving(session("private_key_jwt")), {"subject_token": "a.b.c", "audience": told["trade"]}),
]:
    try:
        made.fetch_token(server["token_endpoint"], grant_type=EXCHANGE, subject_token_type=ACCESS_TOKEN, **more)
        errors.append(None)
    except OAuthError as error:
        errors.append(error.error)

taken_back = proving(known).revoke_token(server["revocation_endpoint"], token=named["access_token"]).status_code
try:
    asker.validate_token(asker.authenticate_token(named["access_token"]), [told["scope"]], None)
    inactive = False
except InvalidTokenError:
    inactive = True

print(
    json.dumps(
        {
            "issuer": issuer,
            "opened": opened,
            "broker proven": proven,
            "claims": dict(claims),
            "said": said,
            "errors": errors,
            "taken back": taken_back,
            "inactive": inactive,
            "token": named["access_token"],
        }
    )
)
