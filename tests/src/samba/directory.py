# Changes a Samba domain in one transaction, as a plan on standard input says, and prints the objectSid of each name.
# Usage: directory.py FOLDER <PLAN
import json
import os
import sys

import ldb
from samba.auth import system_session
from samba.credentials import Credentials
from samba.ndr import ndr_pack, ndr_unpack
from samba.dcerpc import security
from samba.net import Net
from samba.param import LoadParm
from samba.samdb import SamDB

DOMAIN_LOCAL = 4 - (1 << 31)

lp = LoadParm()
folder = sys.argv[1]
lp.load(os.path.join(folder, "etc", "smb.conf"))
db = SamDB(url=lp.samdb_url(), session_info=system_session(), credentials=Credentials(), lp=lp)
plan = json.load(sys.stdin)


def dn(name):
    return "CN=%s,CN=Users,%s" % (name, db.domain_dn())


def modify(name, verb, attribute, value):
    db.modify_ldif("dn: %s\nchangetype: modify\n%s: %s\n%s: %s\n" % (dn(name), verb, attribute, attribute, value))


def sid_of(name):
    entry = db.search(base=dn(name), attrs=["objectSid"])[0]
    return str(ndr_unpack(security.dom_sid, entry["objectSid"][0]))


def allow_to_act(name, delegate):
    # Whoever this descriptor lets in may act for users towards the account (MS-ADA2, MS-SFU section 3.2.5.2.3).
    descriptor = security.descriptor.from_sddl("O:BAD:(A;;GA;;;%s)" % sid_of(delegate), security.dom_sid(db.get_domain_sid()))
    message = ldb.Message(ldb.Dn(db, dn(name)))
    attribute = "msDS-AllowedToActOnBehalfOfOtherIdentity"
    message[attribute] = ldb.MessageElement(ndr_pack(descriptor), ldb.FLAG_MOD_REPLACE, attribute)
    db.modify(message)


db.transaction_start()
for name in plan["users"]:
    db.newuser(name, plan["password"])
for name in plan["computers"]:
    db.newcomputer(name, prepare_oldjoin=True)
for name in plan["groups"]:
    db.newgroup(name)
for name in plan["local_groups"]:
    db.newgroup(name, grouptype=DOMAIN_LOCAL)
for group, member in plan["members"]:
    modify(group, "add", "member", dn(member))
for name, attribute, value in plan["attributes"]:
    modify(name, "replace", attribute, value)
for verb, changes in ("add", plan["added"]), ("delete", plan["removed"]):
    for name, attribute, value in changes:
        modify(name, verb, attribute, value)
for name, delegate in plan["resource_delegates"]:
    allow_to_act(name, delegate)
for name in plan["rekeyed"]:
    # Keys are made of the encryption types that the account has at that moment.
    db.setpassword("(sAMAccountName=%s)" % name, plan["password"])
db.transaction_commit()

if plan["keytabs"]:
    import samba.dckeytab  # gives Net its method

    net = Net(Credentials(), lp)
    for principal, file in plan["keytabs"]:
        net.export_keytab(keytab=os.path.join(folder, file), principal=principal)

sids = {}
for entry in db.search(expression="(|(objectClass=user)(objectClass=group))", attrs=["sAMAccountName", "objectSid"]):
    sids[str(entry["sAMAccountName"][0])] = str(ndr_unpack(security.dom_sid, entry["objectSid"][0]))
print(json.dumps(sids))
