"""Fetches a URL with requests and requests-gssapi: URL, file of the certificate authority."""

import json
import sys

import requests
from requests_gssapi import REQUIRED, HTTPSPNEGOAuth

url, authority = sys.argv[1:]
# REQUIRED: an answer that does not prove the service is an error.
with requests.Session() as session:
    session.trust_env = False
    answer = session.get(url, verify=authority, auth=HTTPSPNEGOAuth(mutual_authentication=REQUIRED), timeout=20)
print(json.dumps({"status": answer.status_code, "token": answer.headers.get("x-kerbridge-token"), "body": answer.text}))
