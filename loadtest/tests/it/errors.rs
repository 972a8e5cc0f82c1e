//! Wrong arguments and wrong targets.

use std::{
    io::{Read, Write},
    net::TcpListener,
};

use crate::support::{Out, loadtest, printed};

#[test]
fn a_remote_target_needs_allow_remote() {
    let out = Out::new();
    let output = loadtest(&["run", "--target", "http://192.0.2.1:8080"], &out)
        .output()
        .unwrap();
    let printed = printed(&output);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        printed.contains("192.0.2.1 is not this machine") && printed.contains("--allow-remote"),
        "{printed}"
    );
}

#[test]
fn an_unexpected_server_is_named() {
    let out = Out::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let _ = socket.read(&mut [0; 1_024]).unwrap();
        socket
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 24\r\n\r\n<h1>Buy socks, cheap</h1>")
            .unwrap();
    });
    let output = loadtest(&["run", "--target", &url], &out).output().unwrap();
    serving.join().unwrap();
    let printed = printed(&output);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        printed.contains("no stagedoor: 200") && printed.contains("Buy socks"),
        "{printed}"
    );
}

#[test]
fn an_absent_server_and_wrong_arguments_are_reported() {
    let out = Out::new();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let absent = format!("http://{free}");
    for (args, error) in [
        (vec!["run", "--target", &absent], "no connection"),
        (vec!["run", "--part", "4/3"], "--part 4/3"),
        (vec!["run", "--part", "1/2"], "--start-at"),
        (vec!["run", "--absent", "1.5"], "--absent 1.5"),
        (vec!["run", "--handoff-issuer", "shop"], "--handoff-audience"),
        (vec!["baselines", "--joining", "0"], "--joining"),
        (vec!["side-by-side", "--repeat", "0"], "--repeat"),
        (
            vec!["run", "--arrivals", "/no/such/curve.csv"],
            "/no/such/curve.csv",
        ),
        (vec!["run", "--fans", "many"], "--fans"),
    ] {
        let output = loadtest(&args, &out).output().unwrap();
        let printed = printed(&output);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(printed.contains(error), "{args:?}: {printed}");
    }
}
