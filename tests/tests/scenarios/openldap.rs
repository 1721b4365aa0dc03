//! Groups of a realm of MIT krb5 from a real OpenLDAP server: in the words of OpenLDAP, 389, FreeIPA and RFC 2307.

mod doctor;
mod tree;

use kerbridge_tests::kdc::Kdc;
use kerbridge_tests::process::Signal;
use serde_json::json;
use tree::{HASTY_MS, Site, claims, group, groups_of, hasty, lab, person, unavailable};

#[test]
fn members_are_found_directly_and_level_by_level() {
    let site = Site::start();
    let world = site.world("");
    assert_eq!(groups_of(&world, "alice"), Ok(json!(["order-clerks"])));
    assert_eq!(groups_of(&world, "bob"), Ok(json!(["everybody"])));
    // Groups within groups, and two that are within each other.
    let world = site.world("membership = \"walk\"");
    assert_eq!(
        groups_of(&world, "alice"),
        Ok(json!(["everybody", "order-clerks", "staff"]))
    );
    // Another instance of hers is somebody else, of whom the directory knows nothing.
    let denied = (403, "principal_not_mapped".to_owned());
    assert_eq!(groups_of(&world, "alice/admin"), Err(denied));
}

#[test]
fn groups_that_are_nested_deeper_than_is_followed_are_not_half_a_list() {
    let site = Site::start();
    let level = |number: usize| group(&format!("level-{number:02}"));
    let add = |number: usize| {
        let member = if number == 0 { person("bob") } else { level(number - 1) };
        let name = format!("level-{number:02}");
        site.add(
            &level(number),
            &format!("objectClass: groupOfNames\ncn: {name}\nmember: {member}"),
        );
    };
    (0..11).for_each(add);
    let mut world = site.world("membership = \"walk\"");
    assert_eq!(groups_of(&world, "bob"), Ok(json!(["everybody"])));
    add(11);
    assert_eq!(groups_of(&world, "bob"), unavailable());
    let says = "groups are nested deeper than is followed";
    let log = world.broker().logged(says);
    assert!(log.contains(says), "{log}");
}

#[test]
fn unique_members_and_names_of_rfc_2307_are_other_words_for_the_same() {
    let site = Site::start();
    let world = site.world("group_class = \"groupOfUniqueNames\"\nmember_attribute = \"uniqueMember\"");
    assert_eq!(groups_of(&world, "alice"), Ok(json!(["unique-clerks"])));
    let denied = Err((403, "denied_by_policy".to_owned()));
    assert_eq!(groups_of(&world, "bob"), denied, "no group of the policy");

    let world = site.world("group_class = \"posixGroup\"\nmember_attribute = \"memberUid\"");
    assert_eq!(groups_of(&world, "alice"), Ok(json!(["posix-clerks"])));
    assert_eq!(groups_of(&world, "bob"), denied);
}

#[test]
fn a_site_without_principals_finds_the_users_of_one_realm_by_their_names() {
    let site = Site::start();
    let world = site.world(
        "find_by = \"name\"\naccount_realm = \"LAB.TEST\"\ngroup_class = \"posixGroup\"\nmember_attribute = \"memberUid\"",
    );
    assert_eq!(groups_of(&world, "alice"), Ok(json!(["posix-clerks"])));
    let stranger = Err((403, "principal_not_mapped".to_owned()));
    assert_eq!(groups_of(&world, "alice/admin"), stranger);
    // The directory compares without regard to case, and Kerberos does not.
    site.modify("replace", &person("alice"), "uid", "Alice");
    assert_eq!(groups_of(&world, "alice"), stranger);
}

#[test]
fn what_the_account_says_that_it_is_a_member_of_counts_where_it_is_a_group() {
    let site = Site::start();
    // The overlay keeps what is changed while it runs. A role is none of the groups.
    let of = |member: &str| format!("objectClass: ipaUserGroup\ncn: posix-clerks\nmember: {member}");
    site.add("cn=posix-clerks,ou=a,ou=groups,dc=lab,dc=test", &of(&person("bob")));
    site.add(
        "cn=role,dc=lab,dc=test",
        &of(&person("bob")).replace("posix-clerks", "role"),
    );
    let more = "membership = \"member_of\"\ngroup_base = \"ou=groups,dc=lab,dc=test\"\ngroup_class = \"ipaUserGroup\"";
    let mut world = site.world(more);
    assert_eq!(groups_of(&world, "bob"), Ok(json!(["posix-clerks"])));
    assert_eq!(groups_of(&world, "alice"), Err((403, "denied_by_policy".to_owned())));
    // One that the reader may not see could be any.
    site.add(
        "cn=secret,ou=hidden,ou=groups,dc=lab,dc=test",
        &of(&person("bob")).replace("posix-clerks", "secret"),
    );
    assert_eq!(groups_of(&world, "bob"), unavailable());
    let says = "1 groups, or places with groups, of the account are outside";
    let log = world.broker().logged(says);
    assert!(log.contains(says), "{log}");
    let world = site.world(&format!("{more}\nelsewhere = \"ignore\""));
    assert_eq!(groups_of(&world, "bob"), Ok(json!(["posix-clerks"])));
}

#[test]
fn a_name_that_two_groups_have_opens_nothing_for_the_members_of_either() {
    let site = Site::start();
    let twins = |unit: &str, member: &str| {
        let lines = format!("objectClass: groupOfNames\ncn: twins\nmember: {}", person(member));
        site.add(&format!("cn=twins,ou={unit},ou=groups,dc=lab,dc=test"), &lines);
    };
    twins("a", "bob");
    let mut world = site.world("");
    assert_eq!(groups_of(&world, "bob"), Ok(json!(["everybody", "twins"])));
    // Somebody who may make groups there makes one of that name, and is in it.
    twins("b", "alice");
    assert_eq!(groups_of(&world, "alice"), unavailable());
    assert_eq!(groups_of(&world, "bob"), unavailable());
    let says = "more than one group of the directory is called \\\"twins\\\"";
    let log = world.broker().logged(says);
    assert!(log.contains(says), "{log}");
    assert!(groups_of(&world, "many").is_ok(), "who is in neither");
    // Where the groups of the policy are is not where everybody may make some.
    let world = site.world("group_base = \"ou=a,ou=groups,dc=lab,dc=test\"");
    assert_eq!(groups_of(&world, "bob"), Ok(json!(["twins"])));
    assert_eq!(groups_of(&world, "alice"), Err((403, "denied_by_policy".to_owned())));
}

#[test]
fn five_hundred_groups_are_all_of_them_or_none() {
    let site = Site::start();
    let world = site.world("");
    assert_eq!(
        groups_of(&world, "many"),
        Ok(json!(["bulk-000", "bulk-499", "order-clerks"]))
    );
    // As OpenLDAP is set up it gives 500 and no more.
    let site = Site::with("", "");
    let mut world = site.world("");
    assert_eq!(groups_of(&world, "many"), unavailable());
    let says = "the directory refused the search with result 4";
    let log = world.broker().logged(says);
    assert!(log.contains(says), "{log}");
    assert!(groups_of(&world, "alice").is_ok());
}

#[test]
fn an_account_that_its_directory_says_is_closed_is_refused_though_its_ticket_is_good() {
    let site = Site::start();
    let mut world = site.world("check_account = true");
    let lax = site.world("");
    let alice = person("alice");
    let plain = |world: &kerbridge_tests::World| {
        let answer = world.curl_as("alice", "/plain").send().unwrap();
        (answer.status, world.reason(&answer).ok().map(|(_, reason)| reason))
    };
    let closed = (403, "principal_not_mapped".to_owned());
    for (attribute, value, word) in [
        ("nsAccountLock", "TRUE", "disabled"),
        ("krbPrincipalExpiration", "20200101000000Z", "expired"),
        // DISALLOW_ALL_TIX, as kadmin's -allow_tix leaves it.
        ("krbTicketFlags", "64", "disabled"),
    ] {
        assert_eq!(plain(&world).0, 200, "{attribute}");
        site.modify("add", &alice, attribute, value);
        assert_eq!(groups_of(&world, "alice"), Err(closed.clone()), "{attribute}");
        // Also where no group is asked for, as check_account says, and not otherwise.
        assert_eq!(plain(&world), (closed.0, Some(closed.1.clone())), "{attribute}");
        let says = format!(
            "the directory says that the account {}",
            if word == "disabled" {
                "is disabled"
            } else {
                "has expired"
            }
        );
        let log = world.broker().logged(&says);
        assert!(log.contains(&says), "{attribute}: {log}");
        assert_eq!(plain(&lax).0, 200, "{attribute}");
        assert_eq!(groups_of(&lax, "alice"), Err(closed.clone()), "{attribute}");
        site.modify("delete", &alice, attribute, value);
    }
    for (attribute, value) in [
        ("nsAccountLock", "FALSE"),
        ("krbPrincipalExpiration", "20990101000000Z"),
        ("krbTicketFlags", "128"),
    ] {
        site.modify("add", &alice, attribute, value);
    }
    assert_eq!(groups_of(&world, "alice"), Ok(json!(["order-clerks"])));
}

#[test]
fn the_directory_of_an_mit_realm_says_which_principals_are_closed() {
    let kdc = Kdc::start_with_directory("LAB.TEST").unwrap();
    kdc.add_service("HTTP/localhost").unwrap();
    let keytab = kdc.folder().join("http.keytab");
    kdc.extract_keytab(&["HTTP/localhost"], &keytab).unwrap();
    kdc.add_user("alice", "of the lab").unwrap();
    let tickets = [("alice".to_owned(), kdc.kinit("alice").unwrap())].into();
    let table = format!(
        "[groups]\nsource = \"ldap\"\n[groups.ldap]\nurl = {:?}\nbind = \"external\"\nbase = \"cn=krb5\"\n\
         find_by = \"principal\"\nprincipal_attribute = \"krbPrincipalName\"\ngroup_class = \"groupOfNames\"\n\
         check_account = true\ncache = \"none\"\n",
        kdc.directory().unwrap()
    );
    let world = tree::around(kdc, keytab, tickets, &table);
    let world = world.broker_table("[limits]\ndeadline = \"9s\"").start().unwrap();
    let plain = || {
        let answer = world.curl_as("alice", "/plain").send().unwrap();
        (answer.status, world.reason(&answer).ok().map(|(_, reason)| reason))
    };
    // From here on she holds a ticket for the service, which is good until its end.
    assert_eq!(plain().0, 200);
    let closed = (403, Some("principal_not_mapped".to_owned()));
    for (close, open) in [
        ("-allow_tix", "+allow_tix"),
        // Never is the beginning of 1970, as MIT writes it.
        ("-expire \"1 hour ago\"", "-expire never"),
        ("-expire \"1 hour ago\"", "-expire \"1 hour\""),
    ] {
        world.kdc().modify("alice", close).unwrap();
        assert_eq!(plain(), closed, "{close}");
        world.kdc().modify("alice", open).unwrap();
        assert_eq!(plain().0, 200, "{open}");
    }
}

#[test]
fn a_directory_points_elsewhere_and_nobody_knows_what_is_there() {
    let site = Site::start();
    let lines =
        "objectClass: referral\nobjectClass: extensibleObject\nou: c\nref: ldap://elsewhere.test/ou=c,ou=groups";
    site.add("ou=c,ou=groups,dc=lab,dc=test", lines);
    let mut world = site.world("");
    assert_eq!(groups_of(&world, "alice"), unavailable());
    let says = "1 groups, or places with groups, of the account are outside";
    let log = world.broker().logged(says);
    assert!(log.contains(says), "{log}");
    // Nor whether the account is.
    assert_eq!(groups_of(&world, "alice/admin"), unavailable());

    let mut world = site.world("elsewhere = \"ignore\"");
    for user in ["alice", "many", "alice"] {
        assert!(groups_of(&world, user).is_ok(), "{user}");
    }
    let log = world.broker().logged("are left out, as groups.ldap.elsewhere says");
    assert_eq!(
        log.matches("are left out, as groups.ldap.elsewhere says").count(),
        1,
        "{log}"
    );
}

#[test]
fn one_connection_serves_many_until_the_directory_ends_it() {
    let mut site = Site::with("idletimeout 1", "");
    let world = site.world("");
    for user in ["alice", "bob", "alice"] {
        assert!(groups_of(&world, user).is_ok(), "{user}");
    }
    assert_eq!(site.connections(), 1, "{}", site.ldap.log());
    // The directory ends what is idle.
    let within = std::time::Duration::from_secs(20);
    site.ldap
        .process()
        .wait_for_log("closed (idletimeout)", within)
        .unwrap();
    assert!(groups_of(&world, "alice").is_ok());
    assert_eq!(site.connections(), 2, "{}", site.ldap.log());
    // Or all of it ends and comes back.
    site.ldap.restart().unwrap();
    assert!(groups_of(&world, "bob").is_ok());
    assert_eq!(site.connections(), 1, "of a new log: {}", site.ldap.log());
}

#[test]
fn a_directory_that_stands_still_or_is_gone_is_503_within_the_deadline_and_then_goes_on() {
    let mut site = Site::start();
    let mut world = hasty(&site.private("cache = \"none\""));
    assert!(groups_of(&world, "alice").is_ok());
    site.ldap.process().signal(Signal::STOP).unwrap();
    let refused = world.curl_as("alice", "/orders/1").send().unwrap();
    let request_id = refused.json()["request_id"].as_str().unwrap_or_default().to_owned();
    let took = world.access_log(&request_id).unwrap()["duration_ms"].as_u64().unwrap();
    assert_eq!(world.reason(&refused).unwrap(), (503, "groups_unavailable".to_owned()));
    assert_eq!(refused.header("retry-after"), Some("5"));
    assert!((HASTY_MS - 100..HASTY_MS + 5000).contains(&took), "{took} ms");
    // Nothing of this audience asks for a group, so nobody is asked.
    assert_eq!(world.curl_as("alice", "/plain").send().unwrap().status, 200);
    site.ldap.process().signal(Signal::CONT).unwrap();
    assert!(groups_of(&world, "alice").is_ok());

    site.ldap.process().kill().unwrap();
    assert_eq!(groups_of(&world, "alice"), unavailable());
    let says = "the directory did not answer within limits.deadline";
    let log = world.broker().logged(says);
    assert!(log.contains(says), "{log}");
    let says = "the directory cannot be reached";
    let log = world.broker().logged(says);
    assert!(log.contains(says), "{log}");
    site.ldap.restart().unwrap();
    assert!(groups_of(&world, "alice").is_ok());
}

#[test]
fn where_one_server_stands_still_another_is_asked() {
    let mut first = Site::start();
    let second = Site::start();
    // Both are of one authority, as far as the broker sees.
    let folder = tempfile::tempdir().unwrap();
    let both = folder.path().join("ca.pem");
    let authorities = [&first, &second].map(|site| std::fs::read_to_string(site.ldap.authority()).unwrap());
    std::fs::write(&both, authorities.concat()).unwrap();
    let more = format!(
        "ca = {both:?}\ncache = \"none\"\nfallback_urls = [{:?}]",
        second.ldap.ldaps()
    );
    let mut world = hasty(&first.table(&first.ldap.ldaps(), &more));
    assert!(groups_of(&world, "alice").is_ok());
    assert_eq!((first.connections(), second.connections()), (1, 0));
    // On an open connection it costs who asks, and nobody else.
    first.ldap.process().signal(Signal::STOP).unwrap();
    assert_eq!(groups_of(&world, "alice"), unavailable());
    for user in ["alice", "bob"] {
        assert!(groups_of(&world, user).is_ok(), "{user}: {}", world.broker().log());
    }
    assert_eq!(second.connections(), 1);
    first.ldap.process().signal(Signal::CONT).unwrap();
    // And where nobody listens it costs nobody anything.
    first.ldap.process().kill().unwrap();
    let world = hasty(&first.table(&first.ldap.ldaps(), &more));
    assert!(groups_of(&world, "alice").is_ok());
}

#[test]
fn the_way_is_private_or_there_is_none() {
    let site = Site::start();
    let ca = format!("ca = {:?}", site.ldap.authority());
    let clerks = Ok(json!(["order-clerks"]));
    // TLS after asking for it; the socket, by password and by who the broker is.
    for table in [
        site.table(&site.ldap.ldap(), &format!("{ca}\nstarttls = true")),
        site.table(&site.ldap.ldapi(), ""),
        site.table(&site.ldap.ldapi(), "bind = \"external\""),
    ] {
        assert_eq!(groups_of(&lab(&table), "alice"), clerks, "{table}");
    }
    // The certificate is for localhost alone.
    let other_name = site.ldap.ldaps().replace("localhost", "127.0.0.1");
    let table = site.table(&other_name, &ca);
    let mut world = lab(&table);
    assert_eq!(groups_of(&world, "alice"), unavailable());
    let says = "invalid peer certificate: certificate not valid for name \\\"127.0.0.1\\\"";
    let log = world.broker().logged(says);
    assert!(log.contains(says), "{log}");
    // Of another authority, also behind StartTLS: the directory never sees the password.
    let folder = tempfile::tempdir().unwrap();
    let stranger = kerbridge_tests::certificates::Certificates::create(folder.path()).unwrap();
    let distrusting = format!("ca = {:?}\nstarttls = true", stranger.authority);
    let binds = |site: &Site| site.ldap.log().matches(" BIND dn=\"cn=reader").count();
    let before = binds(&site);
    let mut world = lab(&site.table(&site.ldap.ldap(), &distrusting));
    assert_eq!(groups_of(&world, "alice"), unavailable());
    let says = "invalid peer certificate";
    let log = world.broker().logged(says);
    assert!(log.contains(says), "{log}");
    assert_eq!(binds(&site), before);
}

#[test]
fn a_token_says_nothing_of_groups_for_which_nobody_asks() {
    let site = Site::start();
    let world = site.world("membership = \"walk\"");
    let answer = world.curl_as("alice", "/orders/1").send().unwrap();
    let claims = claims(&answer);
    assert!(!claims.to_string().contains("ring-"), "{claims}");
}
