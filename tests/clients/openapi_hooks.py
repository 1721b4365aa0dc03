"""What schemathesis cannot make up by itself: in some of its requests stands a token that is good, and some come without a
certificate, so that what is described of good answers is met, too.
"""

import os
import random

import schemathesis

EXCHANGE = {
    "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
    "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
    "audience": os.environ["AUDIENCE"],
}
# Of its own: what is drawn by the run's seed stays as it was.
dice = random.Random(7)


@schemathesis.hook
def before_call(context, case, kwargs):
    if dice.random() < 0.3:
        kwargs["cert"] = None
    body = case.body if isinstance(case.body, dict) else None
    if body is None or dice.random() < 0.6:
        return
    token = os.environ["TOKEN"]
    if case.operation.path == "/oauth2/token":
        case.body = {**EXCHANGE, "subject_token": token}
    elif case.operation.path == "/oauth2/introspect":
        case.body = {"token": token}
