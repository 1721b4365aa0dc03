"""Fetches a URL with pyspnego's own SPNEGO over http.client: port, path, file of the certificate authority."""

import base64
import http.client
import json
import ssl
import sys
import types

# pyspnego wants the package krb5 beside gssapi, which has to be compiled. It is only used to get tickets by password or
# keytab; the ones here are in the cache that KRB5CCNAME names.
sys.modules.setdefault("krb5", types.ModuleType("krb5"))

import spnego  # noqa: E402

port, path, authority = sys.argv[1:]
tls = ssl.create_default_context(cafile=authority)
connection = http.client.HTTPSConnection("localhost", int(port), timeout=20, context=tls)
# NegotiateProxy: SPNEGO written in Python, with GSSAPI for Kerberos inside it only.
client = spnego.client(
    hostname="localhost",
    service="HTTP",
    protocol="negotiate",
    options=spnego.NegotiateOptions.use_negotiate,
)
legs, token = 0, client.step()
while True:
    legs += 1
    connection.request("GET", path, headers={"Authorization": "Negotiate " + base64.b64encode(token).decode()})
    answer = connection.getresponse()
    body = answer.read().decode()
    challenges = [line.split(" ", 1) for line in answer.headers.get_all("WWW-Authenticate", [])]
    reply = [base64.b64decode(line[1]) for line in challenges if line[0] == "Negotiate" and len(line) == 2]
    token = client.step(reply[0]) if reply else None
    if answer.status != 401 or token is None or legs == 3:
        break
print(
    json.dumps(
        {
            "status": answer.status,
            "established": client.complete,
            "mechanism": client.negotiated_protocol,
            "legs": legs,
            "token": answer.headers.get("x-kerbridge-token"),
            "body": body,
        }
    )
)
