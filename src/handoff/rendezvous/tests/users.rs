//! Which users meet, and in which directories root does.

use std::os::unix::fs::lchown;

use rustix::thread::set_thread_res_uid;

use super::*;

/// Runs `task` in a thread that acts as `user`. Needs root.
fn as_user<T: Send>(user: u32, task: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let changed = move || {
            let user = rustix::process::Uid::from_raw(user);
            set_thread_res_uid(user, user, user).expect("this test needs root: it acts as other users");
            task()
        };
        scope.spawn(changed).join().unwrap()
    })
}

#[test]
fn a_foreign_user_is_kept_out_by_the_mode_of_the_path() {
    let (_folder, path) = somewhere();
    let _place = first(&path);
    let error = as_user(USER, || connect(&path, soon())).unwrap_err();
    says(&error, &["handoff.sock", "only its own user and root"]);
}

#[test]
fn a_foreign_user_who_gets_through_learns_that_he_may_not() {
    let (_folder, path) = somewhere();
    let bound = first(&path);
    fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
    let connect_as = |user| as_user(user, || seqpacket::connect(&path, soon())).unwrap();
    let (foreign, peer, own) = (connect_as(OTHER_USER), connect_as(USER), connect_as(0));
    let came = runtime().block_on(async {
        let old = Rendezvous::new(bound, vec![USER].into()).unwrap();
        for _ in [&peer, &own] {
            let _channel = tokio::time::timeout(Duration::from_secs(30), old.accept()).await.unwrap();
        }
        Channel::new(foreign).unwrap().receive("an answer").await.unwrap().message
    });
    let Message::Abort(Abort { reason }) = came else { panic!("{came:?}") };
    assert!(reason.contains(&format!("does not hand over to user {OTHER_USER}")), "{reason}");
    assert!(reason.contains("handoff_peers"), "{reason}");
}

#[test]
fn a_foreign_users_process_at_the_path_is_not_joined_by_root_either_unless_it_is_named() {
    let (_folder, path) = somewhere_of(USER);
    let _place = as_user(USER, || first(&path));
    fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
    assert!(matches!(
        as_user(USER, || connect_or_bind(&path, &alone(), soon())).unwrap(),
        ConnectedOrBound::Connected(_)
    ));
    for user in [OTHER_USER, 0] {
        for peers in [vec![], vec![USER + 10]] {
            let error = as_user(user, || connect_or_bind(&path, &peers.into(), soon())).unwrap_err();
            let names =
                [&format!("a process of user {USER} listens there"), &format!("of user {user};"), "handoff.sock"];
            says(&error, &names);
            says(&error, &[&format!("handoff_peers([{USER}])")]);
        }
        assert!(matches!(
            as_user(user, || connect_or_bind(&path, &vec![USER].into(), soon())).unwrap(),
            ConnectedOrBound::Connected(_)
        ));
    }
}

#[test]
fn root_may_ask_the_process_of_any_user_and_others_their_own_and_roots() {
    let (_folder, path) = somewhere_of(USER);
    let _place = as_user(USER, || first(&path));
    fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
    for user in [USER, 0] {
        assert!(as_user(user, || connect_to_ask(&path, soon())).unwrap().is_some());
    }
    let error = as_user(OTHER_USER, || connect_to_ask(&path, soon())).unwrap_err();
    says(&error, &[&format!("a process of user {USER} listens there"), &format!("run this as user {USER}")]);
}

#[test]
fn root_is_met_in_no_directory_that_another_user_can_write() {
    let (folder, path) = somewhere();
    let refuses = |words: &[&str]| {
        let error = connect_or_bind(&path, &alone(), soon()).unwrap_err();
        says(&error, &["handoff.sock", "runs as root", "RuntimeDirectory="]);
        says(&error, words);
        says(&BoundSocketPath::stage(&path, &alone(), soon()).unwrap_err(), words);
    };
    let set = |mode| fs::set_permissions(folder.path(), PermissionsExt::from_mode(mode)).unwrap();
    for mode in [0o1777, 0o777, 0o775, 0o757] {
        set(mode);
        refuses(&["can be written by other users", &format!("(mode {mode:04o})")]);
    }
    set(0o755);
    chown(folder.path(), Some(USER), None).unwrap();
    refuses(&[&format!("belongs to user {USER}"), "handoff_peers"]);
    let peer = |user: u32| connect_or_bind(&path, &vec![user].into(), soon());
    assert!(peer(OTHER_USER).is_err());
    drop(peer(USER).unwrap());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn root_looks_at_every_directory_that_leads_to_the_path_and_at_links_among_them() {
    let (folder, _) = somewhere();
    let (above, below) = (folder.path().join("above"), folder.path().join("above/below"));
    fs::create_dir_all(&below).unwrap();
    let path = below.join("handoff.sock");
    let set = |mode| fs::set_permissions(&above, PermissionsExt::from_mode(mode)).unwrap();
    set(0o777);
    says(&connect_or_bind(&path, &alone(), soon()).unwrap_err(), &["above can be written by other users (mode 0777)"]);
    // No user can replace what another one has there.
    set(0o1777);
    drop(first(&path));
    let link = above.join("link");
    symlink(&below, &link).unwrap();
    drop(first(&link.join("handoff.sock")));
    lchown(&link, Some(USER), None).unwrap();
    let error = connect_or_bind(&link.join("handoff.sock"), &alone(), soon()).unwrap_err();
    says(&error, &[&format!("link belongs to user {USER}")]);
    chown(&above, Some(USER), None).unwrap();
    says(&connect_or_bind(&path, &alone(), soon()).unwrap_err(), &[&format!("above belongs to user {USER}")]);
}

#[test]
fn a_file_of_another_user_with_a_name_of_ours_is_named_at_once() {
    let (folder, path) = somewhere_of(USER);
    fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o1777)).unwrap();
    let named = |name: &str| {
        let began = Instant::now();
        let error = as_user(USER, || connect_or_bind(&path, &alone(), soon())).unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(10), "it was waited for");
        says(&error, &[name, &format!("user {OTHER_USER}"), "is in the way; remove it", "handoff.sock"]);
        fs::remove_file(folder.path().join(name)).unwrap();
    };
    as_user(OTHER_USER, || File::create(folder.path().join("handoff.sock.lock"))).unwrap();
    named("handoff.sock.lock");
    as_user(OTHER_USER, || File::create(folder.path().join("handoff.sock.new"))).unwrap();
    named("handoff.sock.new");
    let _live = as_user(OTHER_USER, || seqpacket::listen(&folder.path().join("handoff.sock.new"), true)).unwrap();
    named("handoff.sock.new");
    drop(as_user(USER, || first(&path)));
}

#[test]
fn of_many_foreign_users_the_log_says_how_many() {
    let (mut foreigners, now) = (Foreigners::default(), Instant::now());
    (0..5).for_each(|_| foreigners.note(OTHER_USER, now));
    assert_eq!((foreigners.logged, foreigners.unlogged), (Some(now), 4));
    let later = now + LOG_PAUSE;
    foreigners.note(OTHER_USER, later);
    assert_eq!((foreigners.logged, foreigners.unlogged), (Some(later), 0));
}
