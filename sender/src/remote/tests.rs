use super::*;

fn remote(user: Option<&str>, host: &str, port: Option<u16>, path: &str) -> Remote {
    ssh(user, host, port, path).unwrap()
}

#[test]
fn addresses_are_read_as_git_ssh_and_ostree_read_them() {
    let u = Some("u");
    for (text, user, host, port, path) in [
        ("ssh://u@h:10000/c", u, "h", Some(10000), "/c"),
        ("ssh://h/srv/cache", None, "h", None, "/srv/cache"),
        ("ssh://h", None, "h", None, ""),
        ("ssh://h/", None, "h", None, "/"),
        ("ssh://h/c/", None, "h", None, "/c/"),
        ("ssh://h//c", None, "h", None, "//c"),
        ("SSH://h/c", None, "h", None, "/c"),
        ("git+ssh://h/c", None, "h", None, "/c"),
        ("ssh+git://h/c", None, "h", None, "/c"),
        ("ssh://h:/c", None, "h", None, "/c"),
        ("ssh://u@h:/", u, "h", None, "/"),
        ("ssh://h:22", None, "h", Some(22), ""),
        ("ssh://h/a%20b", None, "h", None, "/a b"),
        ("ssh://h/a b", None, "h", None, "/a b"),
        ("ssh://h/%C3%a9", None, "h", None, "/\u{e9}"),
        ("ssh://h/100%", None, "h", None, "/100%"),
        ("ssh://h/a%zz%4", None, "h", None, "/a%zz%4"),
        ("ssh://h/a%2520b", None, "h", None, "/a%20b"),
        ("ssh://h/c?x#y", None, "h", None, "/c?x#y"),
        ("ssh://h/~/c", None, "h", None, "~/c"),
        ("ssh://h/~ci/c", None, "h", None, "~ci/c"),
        ("ssh://h/%7E/c", None, "h", None, "/~/c"),
        ("ssh://h/c/~", None, "h", None, "/c/~"),
        ("ssh://a@b@h/c", Some("a@b"), "h", None, "/c"),
        ("ssh://a%40b@h/c", Some("a@b"), "h", None, "/c"),
        ("ssh://D%5Cu@h/c", Some("D\\u"), "h", None, "/c"),
        ("ssh://u@[::1]:22/c", u, "::1", Some(22), "/c"),
        ("ssh://[::1]:/c", None, "::1", None, "/c"),
        ("ssh://[::1]", None, "::1", None, ""),
        ("ssh://::1/c", None, "::1", None, "/c"),
        ("ssh://u@2001:db8::1/c", u, "2001:db8::1", None, "/c"),
        (
            "ssh://[::ffff:1.2.3.4]/c",
            None,
            "::ffff:1.2.3.4",
            None,
            "/c",
        ),
        ("ssh://[fe80::1%eth0]/c", None, "fe80::1%eth0", None, "/c"),
        (
            "ssh://[fe80::1%25eth0]:2/c",
            None,
            "fe80::1%eth0",
            Some(2),
            "/c",
        ),
        ("ssh://fe80::1%eth0/c", None, "fe80::1%eth0", None, "/c"),
        ("ssh://[h]/c", None, "h", None, "/c"),
        ("u@h:c", u, "h", None, "c"),
        ("h:/c", None, "h", None, "/c"),
        ("h:", None, "h", None, ""),
        ("h:a%20b", None, "h", None, "a%20b"),
        ("h:a b", None, "h", None, "a b"),
        ("h:~/c", None, "h", None, "~/c"),
        ("h:a@b", None, "h", None, "a@b"),
        ("h:a:b", None, "h", None, "a:b"),
        ("a@b@h:c", Some("a@b"), "h", None, "c"),
        ("[::1]:c", None, "::1", None, "c"),
        ("u@[::1]:c", u, "::1", None, "c"),
        ("u@[fe80::1%eth0]:c", u, "fe80::1%eth0", None, "c"),
        ("[u@::1]:c", u, "::1", None, "c"),
        ("[h:2222]:c", None, "h", Some(2222), "c"),
        ("[u@h:2222]:c", u, "h", Some(2222), "c"),
        ("[h]:[c]:d", None, "h", None, "[c]:d"),
    ] {
        let expected = remote(user, host, port, path);
        assert_eq!(text.parse::<Remote>(), Ok(expected.clone()), "{text}");
        let shown = expected.to_string();
        assert_eq!(
            shown.parse::<Remote>(),
            Ok(expected),
            "{text} shown as {shown}"
        );
    }
}

#[test]
fn paths_are_read_as_ostree_reads_them() {
    for (text, path) in [
        ("/srv/cache", "/srv/cache"),
        ("/srv/cache/", "/srv/cache/"),
        ("./cache:1", "./cache:1"),
        ("./x://y", "./x://y"),
        ("cache", "cache"),
        ("~/cache", "~/cache"), // a shell's affair
        ("a%20b", "a%20b"),
        ("a b", "a b"),
        ("file:///srv/cache", "/srv/cache"),
        ("file:///srv/cache/", "/srv/cache/"),
        ("FILE:///srv/cache", "/srv/cache"),
        ("file://localhost/srv/cache", "/srv/cache"),
        ("file:///a%20b/c", "/a b/c"),
        ("file:///a b", "/a b"),
        ("file:///100%/%2e", "/100%/."),
        ("file:///a%3Fb%23c", "/a?b#c"),
        ("file:///~/c", "/~/c"),
    ] {
        assert_eq!(text.parse(), Ok(Remote::Local(path.into())), "{text}");
    }
    let bytes = OsString::from_vec(b"/\xff".to_vec());
    assert_eq!("file:///%ff".parse(), Ok(Remote::Local(bytes.into())));
}

#[test]
fn options_to_ssh_and_nonsense_are_refused() {
    for text in [
        "",
        "ssh://",
        "ssh:///path",
        "ssh://-oProxyCommand=x/path",
        "-oProxyCommand=x:path",
        "ssh://-l@host/path",
        "-l@host:path",
        "host:-path",
        "ssh://@host/",
        "ssh://host:0/",
        "ssh://host:x/",
        "ssh://host:99999/",
        "ssh://[::1/",
        "ssh://[::1]x/",
        "https://example.com/",
        "ftp://a/b",
        "file://relative",
        "file://host/srv/cache",
        "file:///a%00b",
        "ssh://%2DoProxyCommand=x/path",
        "ssh://%2dl@host/path",
        "ssh://host/%0a",
        "ssh://host/%ff",
        "ssh://:22/c",
        "ssh://u@/c",
        "ssh://::1:x/c",
        "[::1:c",
        "[-oX]:c",
        "-u@[::1]:c",
        "ssh://ho\nst/path",
    ] {
        assert!(text.parse::<Remote>().is_err(), "{text:?}");
    }
}

#[test]
fn what_is_shown_is_read_back() {
    for text in [
        "ssh://a@b:1/c",
        "ssh://[::1]/c",
        "a@b:c/d",
        "a@[::1]:c",
        "/srv/cache",
    ] {
        assert_eq!(text.parse::<Remote>().unwrap().to_string(), text);
    }
}
