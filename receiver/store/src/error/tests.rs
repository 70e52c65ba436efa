use super::*;

#[test]
fn a_full_disk_or_quota_is_told_from_a_broken_one() {
    let fault = |kind: io::ErrorKind| Error::io("writing", &"/srv/secret")(kind.into()).to_fault();
    assert_eq!(
        fault(io::ErrorKind::StorageFull).code,
        CloseCode::STORAGE_FULL
    );
    assert_eq!(
        fault(io::ErrorKind::QuotaExceeded).code,
        CloseCode::STORAGE_FULL
    );
    assert_eq!(
        fault(io::ErrorKind::PermissionDenied).code,
        CloseCode::STORAGE_FAILED
    );
    assert!(!fault(io::ErrorKind::Other).text.contains("secret"));
}

#[test]
fn a_limit_of_the_process_is_named_and_is_no_broken_disk() {
    use nix::libc;
    let fault = |errno| {
        let error = io::Error::from_raw_os_error(errno);
        Error::io("writing", &"/srv/secret")(error).to_fault()
    };
    for (errno, code, named) in [
        (libc::ENOSPC, CloseCode::STORAGE_FULL, "storage is full"),
        (libc::EDQUOT, CloseCode::STORAGE_FULL, "quota"),
        (libc::EFBIG, CloseCode::STORAGE_FULL, "ulimit -f"),
        (libc::EMFILE, CloseCode::STORAGE_FAILED, "ulimit -n"),
        (libc::ENFILE, CloseCode::STORAGE_FAILED, "too many files"),
        (libc::ENOMEM, CloseCode::STORAGE_FAILED, "ulimit -v"),
        (libc::EIO, CloseCode::STORAGE_FAILED, "its log says how"),
    ] {
        let fault = fault(errno);
        assert_eq!(fault.code, code, "{errno}");
        assert!(fault.text.contains(named), "{}", fault.text);
    }
}
