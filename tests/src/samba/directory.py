# Changes a Samba domain in one transaction, as a plan on standard input says, and prints the objectSid of each name.
# Usage: directory.py SMB_CONF <PLAN
import json
import sys

from samba.auth import system_session
from samba.credentials import Credentials
from samba.ndr import ndr_unpack
from samba.dcerpc import security
from samba.param import LoadParm
from samba.samdb import SamDB

DOMAIN_LOCAL = 4 - (1 << 31)

lp = LoadParm()
lp.load(sys.argv[1])
db = SamDB(url=lp.samdb_url(), session_info=system_session(), credentials=Credentials(), lp=lp)
plan = json.load(sys.stdin)


def dn(name):
    return "CN=%s,CN=Users,%s" % (name, db.domain_dn())


def modify(name, verb, attribute, value):
    db.modify_ldif("dn: %s\nchangetype: modify\n%s: %s\n%s: %s\n" % (dn(name), verb, attribute, attribute, value))


db.transaction_start()
for name in plan["users"]:
    db.newuser(name, plan["password"])
for name in plan["groups"]:
    db.newgroup(name)
for name in plan["local_groups"]:
    db.newgroup(name, grouptype=DOMAIN_LOCAL)
for group, member in plan["members"]:
    modify(group, "add", "member", dn(member))
for name, attribute, value in plan["attributes"]:
    modify(name, "replace", attribute, value)
for name in plan["rekeyed"]:
    # Keys are made of the encryption types that the account has at that moment.
    db.setpassword("(sAMAccountName=%s)" % name, plan["password"])
db.transaction_commit()

sids = {}
for entry in db.search(expression="(|(objectClass=user)(objectClass=group))", attrs=["sAMAccountName", "objectSid"]):
    sids[str(entry["sAMAccountName"][0])] = str(ndr_unpack(security.dom_sid, entry["objectSid"][0]))
print(json.dumps(sids))
